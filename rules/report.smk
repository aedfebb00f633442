localrules:
    report_page,


rule report_page:
    input:
        summary=SUMMARY,
        verdicts=f"{RESULTS}/verdicts/summary.rst",
        figures=figure_files(),
    output:
        page=REPORT,
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/lowbit.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=catalog.digest("commands/report.py"),
    shell:
        "python -m lowbit report --verdicts {input.verdicts:q} --output {output.page:q} > {log} 2>&1"
