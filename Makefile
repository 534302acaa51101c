# make demo: set up and run the main job. make test: set up and pass the tests.
# make check: lint, types, layers and the tests. make ci: all that CI runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check lint scenarios processes wheel arm64 ci bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "haihe needs Python 3.11 or newer: make PYTHON=python3.11"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -U 'pip>=25.1'
	$(BIN)/python -m pip install -q --disable-pip-version-check -e . --group dev
	touch $@

demo: $(STAMP)
	$(BIN)/haihe demo --out out

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not scenario and not process and not wheel"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint test

scenarios: $(STAMP)
	$(BIN)/python -m pytest -q -m scenario

# iceoryx2 has wheels for x86-64 with glibc 2.34 only: without it its gate is a printed skip
processes: $(STAMP)
	-$(BIN)/python -m pip install -q --disable-pip-version-check --only-binary :all: 'iceoryx2>=0.10'
	$(BIN)/python -m pytest -q -m process

wheel: $(STAMP)
	$(BIN)/python -m pytest -q -m wheel

# an emulated arm64 Debian: its bytes against this machine's (docs/arm64.md)
arm64: $(STAMP)
	$(BIN)/python -m tests.arm64.run

ci: check scenarios processes wheel arm64

bench: $(STAMP)
	$(BIN)/python -m haihe.bench.cases.all

clean:
	rm -rf build dist out .pytest_cache .mypy_cache .ruff_cache
