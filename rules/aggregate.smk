localrules:
    aggregate,
    summary,


rule aggregate:
    input:
        runs=lambda wildcards: results_of(wildcards.study),
    output:
        runs=f"{RESULTS}/tables/{{study}}_runs.csv",
        curves=f"{RESULTS}/tables/{{study}}_curves.csv",
        comparisons=f"{RESULTS}/tables/{{study}}_comparisons.csv",
        verdicts=f"{RESULTS}/verdicts/{{study}}.json",
    log:
        f"{RESULTS}/logs/aggregate/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate/{{study}}.tsv"
    wildcard_constraints:
        study=TRAINING,
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        design=design_param,
        results=results_root,
        tables=folder_of,
        code=catalog.digest("commands/aggregate.py"),
    shell:
        "python -m lowbit aggregate --study {wildcards.study} --results {params.results:q} --design {params.design:q}"
        " --verdicts {output.verdicts:q} --tables {params.tables:q} > {log} 2>&1"


rule summary:
    input:
        verdicts=expand(f"{RESULTS}/verdicts/{{study}}.json", study=STUDIES),
    output:
        text=report(SUMMARY, caption="../report/summary.rst", category="Verdicts", labels={"as": "text, with notes"}),
        rst=f"{RESULTS}/verdicts/summary.rst",
    log:
        f"{RESULTS}/logs/summary.log",
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=catalog.digest("commands/summary.py"),
    shell:
        "python -m lowbit summary --verdicts {input.verdicts:q} --output {output.text:q} --rst {output.rst:q} > {log} 2>&1"
