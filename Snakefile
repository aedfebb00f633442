configfile: "workflow_config.yaml"


report: "report/workflow.rst"


wildcard_constraints:
    dataset=r"[a-z0-9][a-z0-9_.-]*",
    study=r"[a-z0-9][a-z0-9_.-]*",
    task=r"[a-z0-9][a-z0-9_.-]*",
    arm=r"[a-z0-9][a-z0-9_.-]*",
    seed=r"\d+",
    trace=r"[a-z0-9][a-z0-9_.-]*",
    figure=r"[a-z0-9_]+",


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/pretrain.smk"
include: "rules/softmax.smk"
include: "rules/transfer.smk"
include: "rules/estimator.smk"
include: "rules/compressor.smk"
include: "rules/network.smk"
include: "rules/aggregate.smk"
include: "rules/exchange.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


localrules:
    all,
    figures,


rule all:
    default_target: True
    input:
        SUMMARY,
        REPORT,
        figure_files(),


rule figures:
    input:
        figure_files(),


onsuccess:
    print(Path(SUMMARY).read_text() + f"Report: {REPORT}" if Path(SUMMARY).exists() else "")
