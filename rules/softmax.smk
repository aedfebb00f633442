rule softmax:
    input:
        data=data_of("softmax"),
        start=start_of("softmax"),
    output:
        summary=f"{RESULTS}/softmax/{{task}}/{{arm}}/seed{{seed}}/summary.json",
        events=f"{RESULTS}/softmax/{{task}}/{{arm}}/seed{{seed}}/events.jsonl",
        spec=f"{RESULTS}/softmax/{{task}}/{{arm}}/seed{{seed}}/spec.json",
        manifest=f"{RESULTS}/softmax/{{task}}/{{arm}}/seed{{seed}}/manifest.json",
    log:
        f"{RESULTS}/logs/softmax/{{task}}/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/softmax/{{task}}/{{arm}}/seed{{seed}}.tsv"
    retries: 1
    conda:
        "../envs/lowbit.yaml"
    threads: threads_for("softmax")
    resources:
        gpu=gpus_for("softmax"),
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=spec_params("softmax"),
        code=code_params("softmax"),
        folder=folder_of,
    shell:
        "python -m lowbit train --spec {params.spec:q} --folder {params.folder:q}"
        " --data-folder $(dirname {input.data:q}) --gpus-granted {resources.gpu} > {log} 2>&1"
