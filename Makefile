# `make serve` and `make test` do everything on a fresh machine with Python 3.11 or newer.
#
#   make serve ARGS="--port 8123 --model DIR"    hands options on to `millpond serve`
#   make test  ARGS="tests/scheduler -x"         hands options on to pytest

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The very versions that Millpond was tested with; `make constraints` writes them anew.
CONSTRAINTS := constraints.txt
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

# Most tests wait for servers: two processes are quicker than one, also on two cores.
PROCESSES ?= 2

.PHONY: serve test test-mteb soak lint format bench constraints clean

serve: $(VENV)/installed
	@$(BIN)/millpond serve $(ARGS)

test: $(VENV)/installed-dev .venv-clients/installed
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile $(ARGS)

# Apart from `make test`: mteb brings torch.
test-mteb: $(VENV)/installed-dev .venv-mteb/installed
	$(BIN)/python -m pytest -m mteb tests/end_to_end/test_clients.py $(ARGS)

soak: $(VENV)/installed-soak .venv-clients/installed
	$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# sentence-transformers, the yardstick, gets an environment of its own: it brings torch.
bench: $(VENV)/installed-dev .venv-bench/installed
	$(BIN)/python -m benchmarks.overhead $(ARGS)
	$(BIN)/python -m benchmarks.throughput $(ARGS)

$(VENV)/bin/python:
	@echo "making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Millpond needs Python 3.11 or newer: set PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	@echo "installing Millpond into $(VENV) (about 1 GB, some minutes the first time)"
	@$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what the tests and checks need"
	@$(PIP) --editable '.[cpu,dev]'
	@touch $@

$(VENV)/installed-soak: $(VENV)/installed-dev
	@echo "installing what the long tests need"
	@$(PIP) --editable '.[cpu,dev,soak]'
	@touch $@

# The clients that users bring, whose requirements would not go with Millpond's own.
.venv-clients/installed: tests/clients/requirements.txt
	@echo "installing the clients that the tests run into .venv-clients (about 650 MB)"
	@$(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv-mteb/installed: tests/clients/requirements-mteb.txt
	@echo "installing mteb and torch into .venv-mteb (about 2 GB)"
	@$(PYTHON) -m venv .venv-mteb
	@.venv-mteb/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv-bench/installed: benchmarks/requirements-sentence-transformers.txt
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv-infinity/installed: benchmarks/requirements-infinity.txt
	@$(PYTHON) -m venv .venv-infinity
	@.venv-infinity/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv-ray/installed: benchmarks/requirements-ray-serve.txt
	@$(PYTHON) -m venv .venv-ray
	@.venv-ray/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# The newest versions that pyproject.toml allows, in an environment of their own.
constraints:
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/pip install --quiet --disable-pip-version-check '.[cpu,dev]'
	.venv-constraints/bin/pip freeze --exclude millpond | grep -v ' @ ' > $(CONSTRAINTS)
	rm -rf .venv-constraints

clean:
	rm -rf $(VENV) .venv-bench .venv-infinity .venv-ray .venv-clients .venv-mteb build dist *.egg-info
