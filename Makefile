# Each target prepares what it needs by itself, also on a machine that has nothing but Python 3.11 or newer.

PYTHON ?= python3
# Arguments for pytest: make test ARGS="-k retention"
ARGS ?=
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo up down test check bench lock venv clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: venv  ## run the main job and show it: back up, verify, destroy, restore, prove
	@$(VENV)/holdfast demo $(ARGS)

up: venv  ## run it all: Prefect server, schedules, worker (CONFIG=holdfast.yaml); make down stops it
	@$(VENV)/holdfast up --config $(or $(CONFIG),holdfast.yaml) $(ARGS)

down: venv  ## let runs end, then stop what make up started
	@$(VENV)/holdfast down $(ARGS)

test: venv  ## prepare what the tests need, then run all checks and all tests
	@$(VENV)/python -m deployments.local
	@$(VENV)/python -m deployments.local.checks $(ARGS)

check: venv  ## run the checks without the tests: ruff, mypy, import-linter
	@$(VENV)/python -m deployments.local.checks --no-tests

bench: venv  ## measure against restic, BorgBackup, tar and pgBackRest on the same data
	@$(VENV)/python -m deployments.local --peers
	@$(VENV)/python -m pytest -m bench -s tests/bench $(ARGS)

lock: venv  ## write requirements.lock anew from pyproject.toml, keeping what still fits
	@$(VENV)/python -m pip install -q uv
	@$(VENV)/uv pip compile -q pyproject.toml --extra prefect --group dev --universal --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --python-version 3.11 -o requirements.lock

venv:  ## make the Python environment .venv as requirements.lock says
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Holdfast needs Python 3.11 or newer, this is %s\nhint: make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@$(PYTHON) deployments/local/bootstrap.py

clean:  ## remove the environment and the tools' caches
	@rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
