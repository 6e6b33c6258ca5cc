# `make demo` and `make test` set up what they need themselves. PYTHON=... picks another Python.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 2

# What must be covered to the last branch: where money is decided.
STRICT := x402sms/protocol/*,x402sms/limits.py,x402sms/ledger/*,x402sms/reconcile.py
# Its own tests cover it. They alone run under coverage, which makes a test take twice as long.
MONEY  := tests/protocol tests/ledger tests/test_limits.py tests/test_reconcile.py \
          tests/test_transport.py
OTHERS := $(filter-out $(MONEY) tests/__pycache__,\
          $(patsubst %/,%,$(wildcard tests/*/)) $(wildcard tests/test_*.py) examples)
# A worker that is done takes over from one that is not: some tests take a minute.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help demo test check lint types parts cov bench profile clean

help:
	@echo "make demo    the main job against a sandbox on this machine, ending in a receipt"
	@echo "make test    every test, real parts included (needs Node for the local chain)"
	@echo "make check   ruff, mypy --strict, and the tests"
	@echo "make cov     every test under coverage, and what is not covered"
	@echo "make bench   what a paid call costs, beside the official client (QUICK=1: in a minute)"
	@echo "make profile where the time of a paid call goes"

demo: $(VENV)/.demo
	@$(BIN)/x402sms demo

test: $(VENV)/.dev parts
	$(PYTEST) --cov --cov-report= $(MONEY)
	$(BIN)/python -m coverage report --include='$(STRICT)' --fail-under=100
	$(PYTEST) $(OTHERS)

check: lint types test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

cov: $(VENV)/.dev parts
	$(PYTEST) --cov tests examples

bench: $(VENV)/.dev parts
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

profile: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.profiling

parts: node_modules/.package-lock.json

node_modules/.package-lock.json: package.json package-lock.json
	@command -v npm >/dev/null || { \
	  echo "The tests run on a local chain (anvil, with Circle's own USDC) and PostgreSQL, from npm."; \
	  echo "Install Node 20 or newer, with npm, and run this again."; exit 1; }
	# Not `npm ci`: it wants the lock to list the binaries of every platform, and installs one.
	npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "x402sms needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[sandbox]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[sandbox,mcp,webhooks,keyring,postgres,conformance]' --group dev
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) node_modules dist build .coverage .coverage.* .mypy_cache .ruff_cache
