# Two commands: `make study` and `make test`. Both set up .venv with exact versions first. `make miniature` runs the
# paper's whole design on tiny models, some 145 minutes of one core; it goes on where it was stopped.
# With other versions: `make test-jax JAX=0.12 PYTHON=python3.13`, in a folder of its own; VENV=… says which.
PYTHON ?= python3
JAX ?= 0.10
CONSTRAINTS := $(if $(filter 0.10,$(JAX)),constraints.txt,constraints/jax-$(JAX).txt)
VENV ?= $(if $(filter 0.10,$(JAX)),.venv,.venv-jax-$(JAX)-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

MINIATURE := miniature_palm miniature_upalm miniature_t5 miniature_fresh

.PHONY: study miniature test test-jax lock clean

study: $(VENV)/.installed
	$(BIN)/flanscale launch quickstart

miniature: $(VENV)/.installed
	for study in $(MINIATURE); do $(BIN)/flanscale launch $$study || exit; done

test: $(VENV)/.installed-test
	$(BIN)/ruff format --quiet --check && $(BIN)/ruff check --quiet && $(BIN)/mypy
	tests/slurm/cluster.sh with $(BIN)/python -m pytest

test-jax: $(VENV)/.installed-test
	tests/slurm/cluster.sh with $(BIN)/python -m pytest

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(PIP) install --constraint $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --constraint $(CONSTRAINTS) --editable '.[test]'
	touch $@

# Refresh the exact versions of a JAX from the lower bounds of pyproject.toml.
lock:
	rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet '.[test,lm-eval]' 'jax==$(JAX).*'
	.lock-venv/bin/python -m pip freeze --exclude flanscale > $(CONSTRAINTS)
	rm -rf .lock-venv

clean:
	rm -rf $(VENV) .lock-venv
