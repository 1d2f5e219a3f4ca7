# Everything runs in .venv, which the first command sets up. `make` alone explains the targets.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
SIZE ?= paper
JOBS ?= 2
# The first Python that is 3.11 or 3.12; override with make PYTHON=/path/to/python.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test slow lint format lab notebooks paper bench clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 18

# The matrices are small: threads would cost more than they save.
test slow notebooks: export OPENBLAS_NUM_THREADS = 1
test slow notebooks: export OMP_NUM_THREADS = 1
# A kernel without a browser can wait for a widget for ever.
notebooks: export ORTHOTHEORY_SLIDERS = 0

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found; install one, or name it: make PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Setting up $(VENV) with $(PYTHON) (once, about two minutes)"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lab,fast,test]'
	@touch $@

setup: $(STAMP) ## install everything into .venv

reproduce: $(STAMP) ## experiments, figures, tables, ledgers and the paper; only what is out of date (SIZE=smoke for seconds)
	@$(BIN)/orthotheory reproduce --size $(SIZE) --jobs $(JOBS)

test: $(STAMP) ## run the tests and the examples of the docstrings
	@$(BIN)/python -m pytest --doctest-modules tests orthotheory

slow: $(STAMP) ## run the tests with the long searches
	@$(BIN)/python -m pytest --slow

lint: $(STAMP) ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "Formatting differs: run make format" >&2; exit 1; }
	@$(BIN)/mypy

format: $(STAMP) ## format the code
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

lab: $(STAMP) ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

notebooks: $(STAMP) ## run every notebook from top to bottom
	@$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 notebooks

paper: reproduce ## build paper/main.pdf, with what it needs

bench: $(STAMP) ## benchmarks, on request; results in benchmarks/results (PEERS=python with torch and jax)
	@$(BIN)/python benchmarks/import_cost.py
	@$(BIN)/python benchmarks/orthogonalization.py $(if $(PEERS),--peers $(PEERS))
	@$(BIN)/python benchmarks/gpu.py --if-present $(if $(PEERS),--peers $(PEERS))

clean: ## remove results and builds, keep .venv
	rm -rf results runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
