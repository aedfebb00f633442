use rule softmax as transfer with:
    input:
        data=data_of("transfer"),
        start=start_of("transfer"),
    output:
        summary=f"{RESULTS}/transfer/{{task}}/{{arm}}/seed{{seed}}/summary.json",
        events=f"{RESULTS}/transfer/{{task}}/{{arm}}/seed{{seed}}/events.jsonl",
        spec=f"{RESULTS}/transfer/{{task}}/{{arm}}/seed{{seed}}/spec.json",
        manifest=f"{RESULTS}/transfer/{{task}}/{{arm}}/seed{{seed}}/manifest.json",
    log:
        f"{RESULTS}/logs/transfer/{{task}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/transfer/{{task}}/{{arm}}/seed{{seed}}.tsv"
    threads: threads_for("transfer")
    resources:
        gpu=gpus_for("transfer"),
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=spec_params("transfer"),
        code=code_params("transfer"),
        folder=folder_of,
