localrules:
    aggregate_exchange,


use rule softmax as exchange with:
    input:
        data=data_of("exchange"),
        start=start_of("exchange"),
    output:
        summary=f"{RESULTS}/exchange/{{task}}/{{arm}}/seed{{seed}}/summary.json",
        events=f"{RESULTS}/exchange/{{task}}/{{arm}}/seed{{seed}}/events.jsonl",
        spec=f"{RESULTS}/exchange/{{task}}/{{arm}}/seed{{seed}}/spec.json",
        manifest=f"{RESULTS}/exchange/{{task}}/{{arm}}/seed{{seed}}/manifest.json",
    log:
        f"{RESULTS}/logs/exchange/{{task}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/exchange/{{task}}/{{arm}}/seed{{seed}}.tsv"
    threads: threads_of_ranks  # steps are timed
    resources:
        gpu=gpus_for("exchange"),
        mem_mb=memory_of_ranks,
        runtime=runtime_minutes,
    params:
        spec=spec_params("exchange"),
        code=code_params("exchange"),
        folder=folder_of,


use rule aggregate as aggregate_exchange with:
    output:
        runs=f"{RESULTS}/tables/{{study}}_runs.csv",
        curves=f"{RESULTS}/tables/{{study}}_curves.csv",
        comparisons=f"{RESULTS}/tables/{{study}}_comparisons.csv",
        further=[f"{RESULTS}/tables/{{study}}_{name}.csv" for name in FURTHER["exchange"]],
        verdicts=f"{RESULTS}/verdicts/{{study}}.json",
    wildcard_constraints:
        study="exchange",
