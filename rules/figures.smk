localrules:
    figure,


rule figure:
    input:
        runs=f"{RESULTS}/tables/{{study}}_runs.csv",
        curves=f"{RESULTS}/tables/{{study}}_curves.csv",
        comparisons=f"{RESULTS}/tables/{{study}}_comparisons.csv",
        verdicts=f"{RESULTS}/verdicts/{{study}}.json",
        further=further_tables,
    output:
        png=report(
            f"{RESULTS}/figures/{{study}}/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures of {study}",
            labels={"figure": "{figure}"},
        ),
        svg=f"{RESULTS}/figures/{{study}}/{{figure}}.svg",
    log:
        f"{RESULTS}/logs/figures/{{study}}/{{figure}}.log",
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        tables=tables_of,
        verdicts=verdicts_of,
        code=figure_code,
    shell:
        "python -m lowbit figure --study {wildcards.study} --name {wildcards.figure} --tables {params.tables:q}"
        " --verdicts {params.verdicts:q} --output-png {output.png:q} --output-svg {output.svg:q} > {log} 2>&1"
