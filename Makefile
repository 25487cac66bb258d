# Everything below sets itself up: a virtual environment in .venv with the versions of constraints.txt.
#   make demo       the guided tour: retrain, fit, verify, write demo/report.html
#   make test       lint, types and the tests without the slow ones
#   make test-slow  the slow tests
#   make lint, make types, make docs, make clean
# PYTHON=python3.12 picks the interpreter (3.11 or newer); VENV=/elsewhere moves the environment.

VENV ?= .venv
# the first interpreter on the path that runs and is new enough
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Many small models are trained by worker processes; threads inside each would only fight over the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
JOBS ?= 2

.PHONY: help demo test test-slow lint types docs figures clean

help:
	@sed -n '1,/^$$/p' Makefile

demo: $(VENV)/.core
	$(BIN)/whence demo --to demo

test: lint types
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --durations 10

test-slow: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -q -m "slow and not gpu" --timeout 3600

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python docs/figures.py
	$(BIN)/mkdocs build --strict

# The stamps make the second call instant; they are renewed when the dependencies change.
$(VENV)/.core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "whence needs Python 3.11 or newer; say where it is with PYTHON=..."; exit 1; }
	@echo "setting up $(VENV) (once, a few minutes: PyTorch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@$(PIP) --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) demo site build dist .mypy_cache .ruff_cache .pytest_cache
