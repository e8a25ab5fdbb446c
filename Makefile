# Two commands do everything on a fresh machine:  make demo   and   make test
# They need Python 3.11 or newer, make, and the package registry.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.9
# The first interpreter that is new enough.
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() or 1))')

# Keep byte code even where the shell forbids it: every process would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=

# Interpreters of check-wheel: versions, or paths where they are not on the PATH.
PYTHONS ?= 3.11 3.12 3.13

.PHONY: help setup demo test accessibility benchmarks check-ecosystem docs faults soak fuzz lint format lock wheel \
	check-wheel clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## Make the environment (.venv) from the lock

$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "wsi-anomaly needs Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)

$(READY): requirements.lock pyproject.toml | $(BIN)/uv
	@echo "Installing the locked packages (PyTorch among them: some 5 GB on Linux) ..."
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --editable .
	@touch $@

demo: $(READY)  ## Run the whole path on slides it makes itself; ends by naming the report
	@$(BIN)/wsi-anomaly demo

test: $(READY)  ## Run the tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

accessibility: $(READY)  ## Look at every page with axe-core, which npm brings (and Chromium)
	@npm install --silent --no-save --no-package-lock --prefix build/axe axe-core@4.14.1
	@$(BIN)/python -m pytest tests/viewer/test_accessibility.py -n 0

faults: $(READY)  ## Kill, damage and starve it at full counts; writes docs/reliability.md's table
	@FAULTS=all FAULTS_RECORD=$(CURDIR)/docs/results/faults \
		$(BIN)/python -m pytest tests/faults -n 0 -o timeout=0; code=$$?; \
		$(BIN)/python tests/faults/table.py; exit $$code

soak: $(READY)  ## Hours of kills, full disks and damage on one archive (SOAK_MINUTES=120 SOAK_SEED=0)
	@$(BIN)/python tests/faults/soak.py --minutes $(or $(SOAK_MINUTES),120) --seed $(or $(SOAK_SEED),0)

fuzz: $(READY)  ## Fuzz every parser for a minute each (Linux); the record of SECURITY.md
	@$(BIN)/python tests/fuzz --seconds 60 --record docs/results/fuzz.json
	@$(BIN)/python tests/faults/table.py

benchmarks: $(READY)  ## Time everything (40 minutes, a quiet machine); writes the documents' tables
	@$(BIN)/python benchmarks/table.py --run all

check-ecosystem: $(READY)  ## Hold embeddings and stores against LazySlide and slide2vec (some GB)
	@PYTHONPATH=$(CURDIR) $(BIN)/python tests/ecosystem.py

docs: $(READY)  ## Build the documents as a site (build/site), strictly
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/site/index.html"

lint: $(READY)  ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## Apply the style
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: $(BIN)/uv  ## Write requirements.lock again from pyproject.toml (no host names in it)
	@$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
		--output-file requirements.lock

wheel: $(READY)  ## Build the wheel, with the shipped models inside
	@$(BIN)/uv build --quiet --wheel --out-dir dist .

check-wheel: wheel  ## Use the wheel alone on Python 3.11 to 3.13 (PYTHONS=...), those that are here
	@for python in $(PYTHONS); do sh tools/check_wheel.sh $(BIN)/uv $$python || exit 1; done

clean:  ## Remove the environment and everything built
	@rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
