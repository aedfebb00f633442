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
    threads: threads_of_ranks  # steps are timed
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


use rule aggregate as aggregate_exchange with:
    output:
        runs=f"{RESULTS}/tables/{{study}}_runs.csv",
        curves=f"{RESULTS}/tables/{{study}}_curves.csv",
        comparisons=f"{RESULTS}/tables/{{study}}_comparisons.csv",
        further=[f"{RESULTS}/tables/{{study}}_{name}.csv" for name in FURTHER["exchange"]],
        verdicts=f"{RESULTS}/verdicts/{{study}}.json",
    wildcard_constraints:
        study="exchange",
