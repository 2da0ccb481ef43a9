# make demo | test | ui | lint | bench      (a machine with Python 3.11-3.13 and make is enough)
.DEFAULT_GOAL := help
.PHONY: help demo test ui style lint bench clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TYPES := $(VENV)/mypy.out
ROOT ?= .demo
PORT ?= 3000
# the first interpreter that is new enough and not too new
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && { echo $$p; break; }; done)

help:
	@echo "make demo   the whole chain on a made-up world, about two minutes"
	@echo "make ui     the Dagster UI over the demo's results, on 127.0.0.1:$(PORT)"
	@echo "make test   linters, types and all tests"
	@echo "make lint   linters and types only"
	@echo "make bench  performance ratios"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; pass PYTHON=/path/to/python"; exit 2; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/tier-refit demo --root $(ROOT)

ui: $(READY)
	@$(BIN)/python -m dagster_project.ui --root $(ROOT) --port $(PORT)

style: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

lint: style
	@$(BIN)/mypy

# types beside the tests: mypy keeps one core busy. And what Python compiles is kept, whatever the
# environment says: the tests start some dozens of processes that import the package
test: export PYTHONDONTWRITEBYTECODE :=
test: style
	@$(BIN)/mypy >$(TYPES) 2>&1 & types=$$!; \
	$(BIN)/pytest --numprocesses 3 --dist worksteal; tests=$$?; \
	wait $$types; types=$$?; cat $(TYPES); exit $$((tests || types))

bench: $(READY)
	@for b in $(filter-out benchmarks/common.py benchmarks/result.py benchmarks/fuzzed_sheets.py,$(wildcard benchmarks/*.py)); do echo "== $$b"; $(BIN)/python $$b || exit 1; done

clean:
	rm -rf $(VENV) $(ROOT)
