localrules:
    aggregate_compressors,


rule trace:
    input:
        data=data_of_trace,
    output:
        gradients=f"{RESULTS}/traces/{{trace}}/seed{{seed}}/gradients.safetensors",
        summary=f"{RESULTS}/traces/{{trace}}/seed{{seed}}/summary.json",
        spec=f"{RESULTS}/traces/{{trace}}/seed{{seed}}/spec.json",
        manifest=f"{RESULTS}/traces/{{trace}}/seed{{seed}}/manifest.json",
    log:
        f"{RESULTS}/logs/traces/{{trace}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/traces/{{trace}}/seed{{seed}}.tsv"
    retries: 1
    conda:
        "../envs/lowbit.yaml"
    threads: threads_of_trace
    resources:
        gpu=gpus_of_trace,
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=trace_spec,
        code=trace_code,
        folder=folder_of,
    shell:
        "python -m lowbit trace --spec {params.spec:q} --folder {params.folder:q}"
        " --data-folder $(dirname {input.data:q}) --gpus-granted {resources.gpu} > {log} 2>&1"


rule compressor_speed:
    input:
        traces=traces_of(),
        data=data_of_speed,
    output:
        summary=f"{RESULTS}/compressor/{{speed}}/summary.json",
        events=f"{RESULTS}/compressor/{{speed}}/events.jsonl",
        spec=f"{RESULTS}/compressor/{{speed}}/spec.json",
        manifest=f"{RESULTS}/compressor/{{speed}}/manifest.json",
    log:
        f"{RESULTS}/logs/compressor/{{speed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compressor/{{speed}}.tsv"
    wildcard_constraints:
        speed="speed|speed_cuda",
    conda:
        "../envs/lowbit.yaml"
    threads: every_core  # nothing else runs while times are taken, whatever the number of threads measured
    resources:
        gpu=gpus_of_speed,
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=compression_spec(),
        code=compression_code(),
        results=results_root,
        data=data_folder,
        folder=folder_of,
    shell:
        "python -m lowbit compress --spec {params.spec:q} --folder {params.folder:q} --results {params.results:q}"
        " --data {params.data:q} --gpus-granted {resources.gpu} > {log} 2>&1"


rule compressor_quality:
    input:
        traces=traces_of("quality"),
    output:
        summary=f"{RESULTS}/compressor/quality/summary.json",
        events=f"{RESULTS}/compressor/quality/events.jsonl",
        spec=f"{RESULTS}/compressor/quality/spec.json",
        manifest=f"{RESULTS}/compressor/quality/manifest.json",
    log:
        f"{RESULTS}/logs/compressor/quality.log",
    benchmark:
        f"{RESULTS}/benchmarks/compressor/quality.tsv"
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=compression_spec("quality"),
        code=compression_code("quality"),
        results=results_root,
        data=data_folder,
        folder=folder_of,
    shell:
        "python -m lowbit compress --spec {params.spec:q} --folder {params.folder:q} --results {params.results:q}"
        " --data {params.data:q} > {log} 2>&1"


rule aggregate_compressors:
    input:
        runs=results_of("compressor"),
    output:
        runs=f"{RESULTS}/tables/compressor_runs.csv",
        curves=f"{RESULTS}/tables/compressor_curves.csv",
        comparisons=f"{RESULTS}/tables/compressor_comparisons.csv",
        further=[f"{RESULTS}/tables/compressor_{name}.csv" for name in FURTHER["compressor"]],
        matrix=report(
            f"{RESULTS}/tables/compressor_matrix.html",
            caption="../report/table.rst",
            category="Tables of compressor",
            labels={"table": "what compressors send, keep and cost"},
        ),
        audit=report(
            f"{RESULTS}/tables/compressor_audit.html",
            caption="../report/table.rst",
            category="Tables of compressor",
            labels={"table": "claims and what was measured"},
        ),
        modes=report(
            f"{RESULTS}/tables/compressor_modes.html",
            caption="../report/table.rst",
            category="Tables of compressor",
            labels={"table": "code as published against as described"},
        ),
        verdicts=f"{RESULTS}/verdicts/compressor.json",
    log:
        f"{RESULTS}/logs/aggregate_compressors.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_compressors.tsv"
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        results=results_root,
        tasks=compression_tasks,
        tables=folder_of,
        code=catalog.digest("commands/aggregate_compressors.py"),
    shell:
        "python -m lowbit aggregate-compressors --results {params.results:q} --tasks {params.tasks} --verdicts {output.verdicts:q}"
        " --tables {params.tables:q} > {log} 2>&1"
