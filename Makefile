# Two commands for users, each doing all its own set-up on a bare Debian or Ubuntu machine with Python 3.11+:
#   make acceptance   start the real stack here, measure it cold and warm, accept or reject it, leave the report
#   make test         everything that has to hold before a change lands
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: help acceptance test test-full check unit setup setup-test clean

help:
	@sed -n '2,3s/^#   //p' Makefile

setup:
	@$(PYTHON) scripts/set_up.py run

setup-test:
	@$(PYTHON) scripts/set_up.py test

acceptance: setup
	$(BIN)/pytest acceptance/ -p no:cacheprovider $(ARGS)

check: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	rm -f .coverage .coverage.*
	$(BIN)/pytest tests/unit tests/plugin tests/integration --cov --cov-report= -q
	$(BIN)/pytest tests/stack -m stack --cov --cov-append --cov-report= -q
	$(BIN)/coverage report --fail-under=$(COVERAGE)

COVERAGE ?= 90

clean:
	rm -rf .venv build dist site .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
