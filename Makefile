# What a developer needs: `make test` goes from a bare clone (make, python3 and git) to the whole test suite.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Installed before everything else: a range would take the newest torch there is, whatever is already at hand.
TORCH ?= torch==2.13.0
EXTRAS := train,plot,dev

.DEFAULT_GOAL := help
.PHONY: help setup lint types test clean
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

help: ## Say what the targets do
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(STAMP) ## Make .venv with everything; again when pyproject.toml or Makefile have changed

$(STAMP): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("realtime-mer needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2> /dev/null; then \
	  install="apt-get install --yes --quiet --no-install-recommends python3-venv"; \
	  if ! command -v apt-get > /dev/null; then echo "$(PYTHON) cannot make virtual environments: install its module venv." >&2; exit 1; fi; \
	  if [ "$$(id -u)" = 0 ]; then as_root=env; \
	  elif command -v sudo > /dev/null; then as_root="sudo env"; \
	  else echo "$(PYTHON) cannot make virtual environments. As root: $$install" >&2; exit 1; fi; \
	  echo "$(PYTHON) cannot make virtual environments yet: $$install"; \
	  $$as_root DEBIAN_FRONTEND=noninteractive apt-get update --quiet; \
	  $$as_root DEBIAN_FRONTEND=noninteractive $$install; \
	fi
	@if ! $(BIN)/python -m pip --version > /dev/null 2>&1; then \
	  echo "Making $(VENV)"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

lint: $(STAMP) ## Check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Check the types with mypy
	$(BIN)/mypy realtime_mer train tests

test: lint types ## Set up, then lint, types and all tests
	$(BIN)/python -m pytest

clean: ## Remove .venv and whatever the tools left
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
