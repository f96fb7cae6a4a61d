# Two commands do everything from a bare clone (make, python3 and git): `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Named beside the package: its range alone would take the newest torch there is, whatever is already at hand.
TORCH ?= torch==2.13.0
EXTRAS := train,plot,query,dev

# Debian's and Ubuntu's packages. The program needs PortAudio, its way to the sound server, and Qt's libraries; the tests
# need a sound server and a display of their own, ffmpeg, and OSC software that others wrote.
RUN_PACKAGES := libportaudio2 libasound2-plugins pulseaudio-utils \
  libdbus-1-3 libfontconfig1 libgl1 libglib2.0-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0 \
  libxcb-shape0 libxcb-xinerama0 libxkbcommon-x11-0
TEST_PACKAGES := pulseaudio xvfb ffmpeg locales binutils desktop-file-utils \
  x11-utils faketime openbox liblo-tools puredata-core supercollider-language qlcplus

.DEFAULT_GOAL := help
.PHONY: help setup demo lint types test test-all clean
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

help: ## Say what the targets do
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(STAMP) ## Make .venv with everything; again when pyproject.toml or Makefile have changed

$(STAMP): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("realtime-mer needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || .ci/system-packages python3-venv
	@if ! $(BIN)/python -m pip --version > /dev/null 2>&1; then \
	  echo "Making $(VENV)"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi
	@# Without --no-compile, thousands of modules would be compiled here, of which few are ever imported.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile '$(TORCH)' --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## Set up, then run the whole live pipeline on a built-in piece of music
	@.ci/system-packages $(RUN_PACKAGES)
	$(BIN)/realtime-mer demo

lint: $(STAMP) ## Check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Check the types with mypy
	$(BIN)/mypy realtime_mer train benchmarks tests examples

# Most of them wait for sound. The tests of one file share a sound server, or a display.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --durations 20 --durations-min 2

test: lint types ## Set up, then lint, types and the tests (in less than five minutes)
	@.ci/system-packages $(RUN_PACKAGES) $(TEST_PACKAGES)
	$(PYTEST)

test-all: test ## The same, then the tests that take longer
	$(PYTEST) -m slow

clean: ## Remove .venv and whatever the tools left
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
