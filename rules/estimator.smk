localrules:
    aggregate_estimates,
    gallery,


rule reference:
    input:
        data=data_of_networks("reference"),
        networks=checkpoints_of_networks,
    output:
        manifest=f"{RESULTS}/reference/{{task}}/manifest.json",
    log:
        f"{RESULTS}/logs/reference/{{task}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/reference/{{task}}.tsv"
    retries: 1
    conda:
        "../envs/lowbit.yaml"
    threads: threads_for("reference")
    resources:
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=spec_params("reference"),
        code=reference_code,
        data=data_folder,
        folder=folder_of,
    shell:
        "python -m lowbit probe --spec {params.spec:q} --folder {params.folder:q} --data {params.data:q}"
        " --reference-only > {log} 2>&1"


rule estimator:
    input:
        reference=reference_of,
        data=data_of_networks("estimator"),
    output:
        summary=f"{RESULTS}/estimator/{{task}}/{{arm}}/summary.json",
        events=f"{RESULTS}/estimator/{{task}}/{{arm}}/events.jsonl",
        spec=f"{RESULTS}/estimator/{{task}}/{{arm}}/spec.json",
        manifest=f"{RESULTS}/estimator/{{task}}/{{arm}}/manifest.json",
    log:
        f"{RESULTS}/logs/estimator/{{task}}/{{arm}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/estimator/{{task}}/{{arm}}.tsv"
    retries: 1
    conda:
        "../envs/lowbit.yaml"
    threads: threads_for("estimator")
    resources:
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=spec_params("estimator"),
        code=code_params("estimator"),
        data=data_folder,
        folder=folder_of,
    shell:
        "python -m lowbit probe --spec {params.spec:q} --folder {params.folder:q} --data {params.data:q}"
        " --reference-folder $(dirname {input.reference:q}) > {log} 2>&1"


rule aggregate_estimates:
    input:
        runs=results_of("estimator"),
    output:
        runs=f"{RESULTS}/tables/estimator_runs.csv",
        curves=f"{RESULTS}/tables/estimator_curves.csv",
        comparisons=f"{RESULTS}/tables/estimator_comparisons.csv",
        layers=f"{RESULTS}/tables/estimator_layers.csv",
        descents=f"{RESULTS}/tables/estimator_descents.csv",
        verdicts=f"{RESULTS}/verdicts/estimator.json",
    log:
        f"{RESULTS}/logs/aggregate_estimates.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_estimates.tsv"
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        design=design_of("estimator"),
        results=results_root,
        tables=folder_of,
        code=catalog.digest("commands/aggregate_estimates.py"),
    shell:
        "python -m lowbit aggregate-estimates --results {params.results:q} --design {params.design:q}"
        " --verdicts {output.verdicts:q} --tables {params.tables:q} > {log} 2>&1"


rule gallery:
    output:
        table=f"{RESULTS}/tables/estimator_surrogates.csv",
    log:
        f"{RESULTS}/logs/gallery.log",
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=catalog.digest("commands/gallery.py", *surrogate_files()),
    shell:
        "python -m lowbit gallery --output {output.table:q} > {log} 2>&1"
