# Two commands: `make study` and `make test`. Both set up .venv with exact versions first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: study test lock clean

study: $(VENV)/.installed
	$(BIN)/flanscale launch quickstart

test: $(VENV)/.installed-test
	$(BIN)/ruff format --quiet --check && $(BIN)/ruff check --quiet && $(BIN)/mypy
	tests/slurm/cluster.sh with $(BIN)/python -m pytest

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[test]'
	touch $@

# Refresh the exact versions from the lower bounds of pyproject.toml.
lock:
	rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet '.[test]'
	.lock-venv/bin/python -m pip freeze --exclude flanscale > constraints.txt
	rm -rf .lock-venv

clean:
	rm -rf $(VENV) .lock-venv
