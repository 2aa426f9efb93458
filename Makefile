# `make help` lists what can be done. Every target first makes .venv from requirements.lock where that is missing or old.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help repro test test-all up down check docs lock

# The project's own tools first: DVC starts its stages with the `python` it finds on the PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Nothing that the project starts reports home.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A PYTHONPATH from outside would shadow what is pinned.
unexport PYTHONPATH

INSTALLED := .venv/.installed

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

repro: $(INSTALLED) ## run the whole pipeline (only what changed), publish to MLflow, print the results
	@ups repro

test: $(INSTALLED) ## the tests
	@pytest

test-all: $(INSTALLED) ## the tests, the long ones too
	@pytest -m "nightly or not nightly"

up: $(INSTALLED) ## start Prefect server and worker, deployments and the MLflow UI on free loopback ports
	@python -m flows.services up

down: $(INSTALLED) ## stop what `make up` started
	@python -m flows.services down

check: $(INSTALLED) ## format, lint, types, tests
	ruff format --check .
	ruff check .
	mypy
	pytest

docs: .venv-docs/.installed ## the documentation as pages, in site/ (an environment of its own, .venv-docs)
	@# Not --quiet: MkDocs 1.6 then counts no warnings, and --strict lets broken links through.
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "site/index.html (to search in it: python -m http.server -d site)"

lock: ## renew requirements.lock from pyproject.toml (in a fresh environment)
	@.ci/lock

# The environment is rebuilt when the lock's or the project's content changed, not when git touched the files.
$(INSTALLED): requirements.lock pyproject.toml
	@if ! cat requirements.lock pyproject.toml | cmp -s - $@; then .ci/install .venv; fi
	@cat requirements.lock pyproject.toml > $@

.venv-docs/.installed: docs/requirements.txt
	@"$$(.ci/python)" -m venv --clear .venv-docs
	@.venv-docs/bin/pip install -qq -r docs/requirements.txt
	@touch $@
