# Everything a newcomer needs: `make run` starts a working MasqMail, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROGRAM := $(VENV)/.program
TOOLS := $(VENV)/.tools

.PHONY: run test check slow peer bench lint types contract format clean

run: $(PROGRAM)
	@$(BIN)/masqmail demo --serve

test: $(TOOLS)
	@$(BIN)/pytest -q -n 2

check: lint types contract test

slow: $(TOOLS)
	@$(BIN)/pytest -q -m slow -n 2

# In a folder of its own: pytest closes the common one to Postfix's user each time somebody starts another run.
peer: $(TOOLS)
	@folder=$$(mktemp -d /tmp/masqmail-peer.XXXXXX) && $(BIN)/pytest -q -m peer --basetemp=$$folder/run; \
	status=$$?; rm -rf $$folder; exit $$status

# As root, on a quiet machine; bench/README.md says what they need. A program that lacks something says so.
BENCHMARKS := accept relay sendmail idle drain fetch full_queue

bench: $(PROGRAM)
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python bench/$$name.py --save || exit 1; done

lint: $(TOOLS)
	@$(BIN)/ruff format --check src tests bench
	@$(BIN)/ruff check src tests bench

types: $(TOOLS)
	@$(BIN)/mypy

contract: $(TOOLS)
	@$(BIN)/lint-imports --no-cache

format: $(TOOLS)
	@$(BIN)/ruff format src tests bench
	@$(BIN)/ruff check --fix src tests bench

clean:
	rm -rf $(VENV) build dist

# The program in a virtual environment of its own; it runs from src/, so that a change counts at once.
$(PROGRAM): pyproject.toml $(wildcard scripts/*)
	@echo "Setting up MasqMail in $(VENV); this takes a minute, once."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

# The same with what tests and checks need.
$(TOOLS): $(PROGRAM) pyproject.toml
	@echo "Adding the tools for tests and checks."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test,lint]'
	@touch $@
