# `make test` is what a change must pass; `make venv` alone sets a contributor up.

PYTHON ?= python3
# Test processes; 0 is this one. A file's tests stay together, for they share what they compile.
WORKERS ?= 2
PYTEST_FLAGS ?=

# On a CPU a training step asks for fresh memory each time; in pages of 2 MiB the kernel hands it
# over quicker. Elsewhere than with glibc on Linux this is not read.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: venv demo test slow lint types fast format clean

venv: $(STAMP)

# Debian's python3 may come without ensurepip; its pip can then install one from outside.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; run: make PYTHON=python3.11 (or newer)"; exit 1; }
	$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --clear --without-pip .venv && \
	  $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@echo 'installing into .venv: 1 to 3 minutes, and nothing is said meanwhile'
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python train.py --config=configs/urnet_digits.py --workdir=runs/demo
	$(BIN)/python eval.py --workdir=runs/demo

test: lint types fast

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

fast: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist=loadfile $(PYTEST_FLAGS)

# Exit 5 is "no tests collected": a suite without slow tests is no failure.
slow: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist=loadfile -m slow $(PYTEST_FLAGS) || [ $$? -eq 5 ]

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps runs/, which is somebody's work.
clean:
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
