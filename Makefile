PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Options for the script of a target: make soak ARGS="--seed 3 --seconds 300"
ARGS ?=

# The tests start many processes, none of which should have to compile what the one before has.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint types format adversity sequences soak fuzz mutants bench clean

demo: $(READY)  ## run the main job against the embedded exchange
	$(BIN)/masscancel demo

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

# Coverage doubles the time of what it measures: CI, which sets CI, holds it above its floor.
test: $(READY) lint types  ## lint, type-check and run every test (with CI=1: measure coverage)
	$(BIN)/python -m pytest -n 3 --dist worksteal $(if $(CI),--cov --cov-report=term)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(READY)
	$(BIN)/mypy

format: $(READY)  ## put the code into its one form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

adversity: $(READY)  ## play the fault matrix, and report overruns, sends, false Acks
	$(BIN)/python tests/adversity/overrun.py $(ARGS)
	$(BIN)/python tests/adversity/crowds.py
	$(BIN)/python -m pytest -q -p no:xdist -m "adversity or not adversity" tests/adversity
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "adversity or hypothesis" \
		--hypothesis-profile=thorough tests --ignore=tests/adversity

sequences: $(READY)  ## look for a false Confirmation in 100,000 random sequences (half an hour)
	MASSCANCEL_SEQUENCES=100000 $(BIN)/python -m pytest -p no:xdist tests/engine/test_confirm_machine.py

soak: $(READY)  ## trade and kill, again and again, against an exchange that fails at random
	$(BIN)/python tests/adversity/soak.py $(ARGS)

fuzz: $(READY)  ## coverage-guided fuzzing of every venue's replies (Linux)
	$(BIN)/python -m pip install --quiet --group fuzz
	$(BIN)/python tests/adversity/fuzz_replies.py $(ARGS)

mutants: $(READY)  ## change the code that decides, and see that a test notices
	$(BIN)/python -m pip install --quiet --group mutants
	$(BIN)/python tests/adversity/mutants.py $(ARGS)

# The last ccxt that has AscendEX, without the resolver that it would bring into aiohttp.
bench: $(READY)  ## measure beside what one would use instead (some ten minutes)
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m pip install --quiet --no-deps "ccxt==4.5.63"
	$(BIN)/python benchmarks/run.py

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "masscancel needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[cli,speed]" --group dev
	touch $(READY)

clean:
	rm -rf $(VENV) .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
