# Two commands for users, each doing all its own set-up on a bare Debian or Ubuntu machine with Python 3.11+:
#   make acceptance   start the real stack here, measure it cold and warm, accept or reject it, leave the report
#   make test         everything that has to hold before a change lands (about 25 minutes on 2 cores)
#   make test-full    that, and faults on the real stack, browser pages, benchmarks; done parts are not repeated
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/pytest -p no:cacheprovider
ARGS ?=
COVERAGE ?= 95
DONE := build/full
# what `make check` runs, one after the other; each is a hook of .pre-commit-config.yaml, too
CHECKS := ruff-check ruff-format mypy import-linter mkdocs towncrier
# measures clients against each other, so nothing may run beside it
ALONE := tests/integration/test_load_benchmark.py
# whole runs that mostly wait, two at a time: busy tests beside them would make their client the limit
CLUSTERS := tests/integration/test_clusters.py tests/integration/test_clusters_gate.py

.PHONY: help acceptance setup setup-test check $(CHECKS) test test-full chromium postgresql clean

help:
	@sed -n '2,4s/^#   //p' Makefile

setup:
	@$(PYTHON) scripts/set_up.py run

setup-test:
	@$(PYTHON) scripts/set_up.py test

acceptance: setup
	$(PYTEST) acceptance/ $(ARGS)

check: $(CHECKS)

ruff-check: setup-test
	$(BIN)/ruff check .

ruff-format: setup-test
	$(BIN)/ruff format --check .

mypy: setup-test
	$(BIN)/mypy

import-linter: setup-test
	$(BIN)/lint-imports

mkdocs: setup-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

towncrier: setup-test
	@mkdir -p build && $(BIN)/towncrier build --draft > build/changelog.md

test: check
	rm -f .coverage .coverage.*
	$(PYTEST) tests/unit tests/integration $(addprefix --ignore=,$(ALONE) $(CLUSTERS)) -m "not full" -q -n 2 --dist loadfile --cov --cov-report=
	$(PYTEST) $(CLUSTERS) -m "not full" -q -n 2 --dist loadfile --cov --cov-append --cov-report=
	$(PYTEST) tests/plugin $(ALONE) -m "not full" -q --cov --cov-append --cov-report=
	$(PYTEST) tests/stack -q --cov --cov-append --cov-report=
	$(BIN)/coverage report --fail-under=$(COVERAGE)

# Each part leaves a mark when it has passed; an interrupted run goes on with the next part. `make clean-full` forgets.
test-full: test $(DONE)/databases $(DONE)/pages $(DONE)/plugin $(DONE)/stack $(DONE)/benchmarks
	@echo "all parts passed"

chromium:
	@command -v chromium >/dev/null || apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk

postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends postgresql

$(DONE)/databases: setup-test postgresql
	$(PYTEST) tests/integration/test_history_writers.py -m full -q
	@mkdir -p $(@D) && touch $@

$(DONE)/pages: setup-test chromium
	$(PYTEST) tests/integration -m full -q --ignore tests/integration/test_history_writers.py
	@mkdir -p $(@D) && touch $@

$(DONE)/plugin: setup-test
	$(PYTEST) tests/plugin -m full -q || [ $$? -eq 5 ]
	@mkdir -p $(@D) && touch $@

$(DONE)/stack: setup-test
	$(PYTEST) tests/stack_full -q
	@mkdir -p $(@D) && touch $@

$(DONE)/benchmarks: setup-test
	$(BIN)/python -m benchmarks.plugin_load
	$(BIN)/python -m benchmarks.client --quick
	$(BIN)/python -m benchmarks.verdicts.scale
	$(BIN)/python -m benchmarks.workload.million_requests --check
	$(BIN)/python -m benchmarks.regression --out build/regression
	@mkdir -p $(@D) && touch $@

clean-full:
	rm -rf $(DONE)

clean: clean-full
	rm -rf .venv build dist site .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
