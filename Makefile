# `make demo` sets everything up and runs the main job; `make test` sets everything up and passes the tests.

PYTHON ?= python3
VENV   ?= .venv
# the newest torch that was tested; the CPU build where pip finds one
TORCH  ?= 2.13.0
# that the tests run in
PROCESSES ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint types unit clean

demo: $(VENV)/.demo
	$(BIN)/guerdon run quickstart

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(PROCESSES) --dist worksteal

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV) || { echo "this needs Python's venv module: apt install python3-venv"; exit 1; }
	$(PIP) install -q --upgrade 'pip>=25.1'
	touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	$(PIP) install -q 'torch==$(TORCH)+cpu' 2>/dev/null || $(PIP) install -q 'torch==$(TORCH)'
	$(PIP) install -q -e '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install -q --group dev
	touch $@

clean:
	rm -rf $(VENV) runs dist
