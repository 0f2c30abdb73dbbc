# Each target sets up what it needs: .venv with the package in it, without root and without a system MPI.
# A recipe's own python is .venv/bin/python; PYTHON only makes the venv (3.10 to 3.12).
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
WORKERS ?= 2
CONFIG ?= configs/quickstart.yaml
# `make test TESTS=` runs the slow ones too; `make test TESTS=tests/test_rng.py` only some.
TESTS ?= -m "not slow"

.PHONY: train test lint clean

train: .venv/train
	$(BIN)/ganfleet train --workers $(WORKERS) --config $(CONFIG)

test: .venv/test
	$(BIN)/python -m pytest $(TESTS)

lint: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

clean:
	rm -rf .venv build *.egg-info rank_*

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "ganfleet needs Python 3.10, 3.11 or 3.12: install one, or name it with make PYTHON=…"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/train: .venv/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/test: .venv/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@
