# Everything a newcomer needs: `make run` starts a working MasqMail, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check slow peer format lint types contract docs clean

run: $(STAMP)
	@$(BIN)/masqmail demo --serve

test: $(STAMP)
	$(BIN)/pytest -n 2

check: lint types contract test

slow: $(STAMP)
	$(BIN)/pytest -m slow -n 2

peer: $(STAMP)
	$(BIN)/pytest -m peer

lint: $(STAMP)
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests

types: $(STAMP)
	$(BIN)/mypy

contract: $(STAMP)
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

clean:
	rm -rf $(VENV) build dist run

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@
