localrules:
    aggregate_exchange,


# A job trains all seeds of an arm: most of a short run is the import of PyTorch.
rule exchange:
    input:
        data=data_of_arm,
        start=starts_of_arm,
    output:
        summary=every_seed("summary.json"),
        events=every_seed("events.jsonl"),
        spec=every_seed("spec.json"),
        manifest=every_seed("manifest.json"),
    log:
        f"{RESULTS}/logs/exchange/{{task}}/{{arm}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/exchange/{{task}}/{{arm}}.tsv"
    retries: 1
    conda:
        "../envs/lowbit.yaml"
    threads: threads_of_ranks
    resources:
        gpu=gpus_of_ranks,
        mem_mb=memory_of_ranks,
        runtime=runtime_of_arm,
    params:
        specs=specs_of_arm,
        code=code_of_arm,
        folder=folder_of_arm,
    shell:
        "python -m lowbit train-seeds --specs {params.specs:q} --folder {params.folder:q}"
        " --data-folder $(dirname {input.data:q}) --gpus-granted {resources.gpu} > {log} 2>&1"


# Times are compared between arms, so they are taken of all arms in one job; accuracies do not depend on the minute.
rule time_steps:
    input:
        data=data_of_timing,
        start=starts_of_timing,
    output:
        summary=f"{RESULTS}/timing/{{task}}/summary.json",
        events=f"{RESULTS}/timing/{{task}}/events.jsonl",
        spec=f"{RESULTS}/timing/{{task}}/spec.json",
        manifest=f"{RESULTS}/timing/{{task}}/manifest.json",
    log:
        f"{RESULTS}/logs/timing/{{task}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/timing/{{task}}.tsv"
    retries: 1
    conda:
        "../envs/lowbit.yaml"
    threads: every_core  # nothing else runs while times are taken
    resources:
        gpu=gpus_for("timing"),
        mem_mb=memory_of_timing,
        runtime=runtime_minutes,
    params:
        spec=spec_params("timing"),
        code=code_params("timing"),
        folder=folder_of,
    shell:
        "python -m lowbit time-steps --spec {params.spec:q} --folder {params.folder:q}"
        " --data-folder $(dirname {input.data:q}) --gpus-granted {resources.gpu} > {log} 2>&1"


use rule aggregate as aggregate_exchange with:
    output:
        runs=f"{RESULTS}/tables/{{study}}_runs.csv",
        curves=f"{RESULTS}/tables/{{study}}_curves.csv",
        comparisons=f"{RESULTS}/tables/{{study}}_comparisons.csv",
        further=[f"{RESULTS}/tables/{{study}}_{name}.csv" for name in FURTHER["exchange"]],
        verdicts=f"{RESULTS}/verdicts/{{study}}.json",
    wildcard_constraints:
        study="exchange",
