localrules:
    prepare,


rule prepare:
    output:
        manifest=f"{DATA}/{{dataset}}/manifest.json",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare/{{dataset}}.tsv"
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=dataset_settings,
        folder=folder_of,
        data_root=data_root_argument(),
        code=dataset_code,
    shell:
        "python -m lowbit prepare --dataset {wildcards.dataset} --settings {params.settings:q} {params.data_root}"
        " --folder {params.folder:q} > {log} 2>&1"
