# Each target needs nothing but Python: it makes a virtual environment, installs what it needs there, and runs.
#   make demo PYTHON=python3.12     with another Python
#   make test VENV=/tmp/levin       in another place

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help demo test test-slow check format bench docs clean

help:
	@echo "make demo      watch a small network learn handwritten digits (under a minute once installed)"
	@echo "make test      run the tests"
	@echo "make test-slow run the tests that take longer, and those that compare with Lightning"
	@echo "make check     formatting, lint, types, layers"
	@echo "make format    put formatting, import order and the tree in docs/design.md right"
	@echo "make bench     what a step, an import and a checkpoint cost, beside a bare loop and Lightning"
	@echo "make docs      build the documentation into site/"
	@echo "make clean     remove the virtual environment and what was built"

demo: $(VENV)/.with-demo
	$(BIN)/levin demo

test: $(VENV)/.with-test
	$(BIN)/python -m pytest

test-slow: $(VENV)/.with-slow
	$(BIN)/python -m pytest -m "slow or parity"

check: $(VENV)/.with-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.with-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python scripts/tree.py

bench: $(VENV)/.with-parity
	$(BIN)/python benchmarks/import_cost.py
	$(BIN)/python benchmarks/step_cost.py
	$(BIN)/python benchmarks/ddp_step.py
	$(BIN)/python benchmarks/start_cost.py
	$(BIN)/python benchmarks/checkpoint_cost.py

docs: $(VENV)/.with-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site dist levin_demo

# .with-EXTRA says that levin and that extra are installed as pyproject.toml and constraints.txt have them now.
$(VENV)/.with-%: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing levin[$*] into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "levin needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@
