localrules:
    aggregate_networks,


rule netbench:
    output:
        summary=f"{RESULTS}/network/links/summary.json",
        events=f"{RESULTS}/network/links/events.jsonl",
        spec=f"{RESULTS}/network/links/spec.json",
        manifest=f"{RESULTS}/network/links/manifest.json",
        traces=[f"{RESULTS}/network/links/{name}.json" for name in ("trace", "trace_waits")],
    log:
        f"{RESULTS}/logs/network/links.log",
    benchmark:
        f"{RESULTS}/benchmarks/network/links.tsv"
    conda:
        "../envs/lowbit.yaml"
    threads: every_core  # nothing else runs while times are taken
    resources:
        mem_mb=memory_mb,
        runtime=runtime_minutes,
    params:
        spec=network_spec,
        code=network_code,
        folder=folder_of,
    shell:
        "python -m lowbit links --spec {params.spec:q} --folder {params.folder:q} > {log} 2>&1"


rule aggregate_networks:
    input:
        runs=results_of("network"),
        benchmark=network_benchmark,
    output:
        runs=f"{RESULTS}/tables/network_runs.csv",
        curves=f"{RESULTS}/tables/network_curves.csv",
        comparisons=f"{RESULTS}/tables/network_comparisons.csv",
        further=[f"{RESULTS}/tables/network_{name}.csv" for name in FURTHER["network"]],
        verdicts=f"{RESULTS}/verdicts/network.json",
    log:
        f"{RESULTS}/logs/aggregate_networks.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_networks.tsv"
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        extrapolation=network_extrapolation,
        results=results_root,
        tables=folder_of,
        code=catalog.digest("commands/aggregate_networks.py"),
    shell:
        "python -m lowbit aggregate-networks --results {params.results:q} --extrapolation {params.extrapolation:q}"
        " --verdicts {output.verdicts:q} --tables {params.tables:q} > {log} 2>&1"
