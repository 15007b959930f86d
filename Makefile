# All paths are relative, so that the name of the folder may contain a space.
SHELL := /bin/bash
PYTHON3 ?= python3
PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet
# One thread per process: tests run in parallel, and sums have a fixed order.
TEST_ENV := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed ## install, run the pipeline (preset toy in a fresh clone), print where the results are
	@$(PYTHON) -m threedgp check
	@$(PYTHON) -m dvc repro
	@echo
	@echo "Report:   results/report.html"
	@echo "Images:   results/renders/"
	@echo "Metrics:  results/metrics.json"

test: .venv/installed-test ## install test dependencies and run the tests
	@$(TEST_ENV) $(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not gpu and not slow" -rs

lint: .venv/installed-test ## check style and formatting
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

bench: .venv/installed-test ## run the benchmarks
	@for script in data_loader.py render.py "render.py --workload inference" train_step.py; do \
		echo "benchmarks/$$script"; PYTHONPATH=. $(PYTHON) benchmarks/$$script || exit 1; done

clean: ## remove outputs and scratch; keep .venv and the DVC cache
	@rm -rf .scratch results build *.egg-info .pytest_cache .ruff_cache
	@# Only outputs of stages have such a manifest. Whatever else is in data/ may be someone's images.
	@grep -ls '"row_group_rows"' data/*/*/manifest.json | while read -r file; do rm -rf "$${file%/*}"; done
	@find data -mindepth 1 -type d -empty -delete
	@find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON3) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11 to 3.13 is needed; set it with: make PYTHON3=/path/to/python3.11"; exit 1; }
	@$(PYTHON3) -c 'import venv, ensurepip' 2> /dev/null || \
		{ echo "Python's venv is missing: sudo apt install python3-venv"; exit 1; }
	@$(PYTHON3) -m venv .venv

# Stamps: a second call installs nothing until pyproject.toml or constraints.txt change.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv (PyTorch is large, so this takes a while)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/installed-test: .venv/installed
	@$(PIP) install -c constraints.txt -e ".[test]"
	@touch $@
