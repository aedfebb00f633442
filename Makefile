# make run    installs into .venv, runs the default study, ends with verdicts and report
# make test   installs, runs the tests
# make lint   checks form: Python, Snakemake files, workflow
# make kernels  compiles the CUDA kernels for GPUs that need not be there
#
# VENV=dir names another place for the environment, PYTHON=python3.12 another Python (3.11 or newer),
# ARGS="--configfile studies/cifar10.yaml" goes to snakemake, or to pytest.

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/installed
export PATH := $(BIN):$(PATH)

.PHONY: run install test lint kernels dry-run clean

run: $(INSTALLED)
	@python -m lowbit unlock
	snakemake $(ARGS)

install: $(INSTALLED)

$(INSTALLED): pyproject.toml envs/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"lowbit needs Python 3.11 or newer, {sys.executable} is {v.major}.{v.minor}: set PYTHON=" if v < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --constraint envs/constraints.txt --editable '.[test]'
	@touch $@

test: $(INSTALLED)
	python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint

kernels: $(INSTALLED)
	python -m lowbit compile-kernels --processes 2

dry-run: $(INSTALLED)
	snakemake --dry-run --quiet rules

clean:
	rm -rf results/* .snakemake
	git checkout -- results/README.md
