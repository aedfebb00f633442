rule pretrain:
    input:
        data=data_of("pretrain"),
    output:
        weights=f"{RESULTS}/pretrain/{{task}}/seed{{seed}}/weights.safetensors",
        summary=f"{RESULTS}/pretrain/{{task}}/seed{{seed}}/summary.json",
        events=f"{RESULTS}/pretrain/{{task}}/seed{{seed}}/events.jsonl",
        spec=f"{RESULTS}/pretrain/{{task}}/seed{{seed}}/spec.json",
        manifest=f"{RESULTS}/pretrain/{{task}}/seed{{seed}}/manifest.json",
    log:
        f"{RESULTS}/logs/pretrain/{{task}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{task}}/seed{{seed}}.tsv"
    retries: 1
    conda:
        "../envs/lowbit.yaml"
    threads: threads_for("pretrain")
    resources:
        gpu=gpus_for("pretrain"),
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=spec_params("pretrain"),
        code=code_params("pretrain"),
        folder=folder_of,
    shell:
        "python -m lowbit train --spec {params.spec:q} --folder {params.folder:q}"
        " --data-folder $(dirname {input.data:q}) --gpus-granted {resources.gpu} > {log} 2>&1"
