# Everything a checkout can do. `make` alone prints this list.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# Passed through to what the target runs: make serve ARGS="--data /srv/transom"
ARGS ?=

export VENV

.PHONY: help
help: ## print this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: serve
serve: ## install and run the service (make serve ARGS="--data DIR --config FILE")
	@scripts/install serve
	@exec $(BIN)/transom serve $(ARGS)

.PHONY: test
test: ## install what the tests need, then lint and run all of them
	@scripts/system-packages tests/system-packages.txt
	@scripts/install dev
	@failed=0; scripts/lint || failed=1; scripts/test $(ARGS) || failed=1; exit $$failed

.PHONY: unit
unit: ## run the quick tests (make unit ARGS="-k quota")
	@scripts/install dev
	@$(BIN)/python -m pytest tests/unit tests/house $(ARGS)

.PHONY: tempest
tempest: ## run all of tempest's image tests against a real Keystone and Transom (20 minutes)
	@scripts/system-packages tests/system-packages.txt
	@scripts/install dev
	@TRANSOM_TEMPEST=full $(BIN)/python -m pytest -s tests/interop/tempest $(ARGS)

.PHONY: lint
lint: ## check style, types and layers
	@scripts/install dev
	@scripts/lint

.PHONY: bench
bench: ## measure against Glance and the limit programs (make bench ARGS="--help")
	@scripts/install dev
	@$(BIN)/python -m bench $(ARGS)

.PHONY: docs
docs: ## write docs/reference and the dashboard anew from the code
	@scripts/install serve
	@$(BIN)/python scripts/reference.py
	@$(BIN)/python scripts/dashboard.py

.PHONY: lock
lock: ## resolve requirements/*.lock anew from pyproject.toml
	@scripts/lock $(ARGS)

.PHONY: clean
clean: ## remove the virtual environments and every cache
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
