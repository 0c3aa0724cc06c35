# Needs python3.11 or newer, java 17 or newer and maven; everything else comes into .venv at the locked versions.
.DEFAULT_GOAL := help
.PHONY: help install demo test test-containers compose-test simulate chaos soak fuzz faults lint format bench bench-long up stop clean lock

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
UV := $(BIN)/uv

help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1\t\2/p' Makefile | expand -t 16

install: $(INSTALLED)  ## the locked dependencies and the meterline command into .venv

# uv takes a quarter of pip's time, but only pip knows the package index that this machine may have been given.
$(INSTALLED): requirements.lock requirements-uv.lock pyproject.toml
	@echo "Installing the locked dependencies into $(VENV): about 15 seconds with a quick network"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $(INSTALLED)

demo: $(INSTALLED)  ## a year of departures from New York, metered and proven; leaves the stack running
	@$(BIN)/meterline demo

up: $(INSTALLED)  ## the whole stack on this machine, in the background
	@$(BIN)/meterline up --detach

stop: $(INSTALLED)  ## stop the stack that demo or up left running; its data stays in .meterline
	@$(BIN)/meterline down

# Tests wait more than they compute: three files at a time on two cores.
JOBS ?= 3

test: $(INSTALLED)  ## all tests, JOBS=3 files at a time
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

SEEDS ?= 10000
MINUTES ?= 10

simulate: $(INSTALLED)  ## SEEDS=10000 worlds in which everything fails, in virtual time, on all cores
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $$(getconf _NPROCESSORS_ONLN)

chaos: $(INSTALLED)  ## real processes killed for MINUTES=10 under load, every digit compared; the report in chaos-report
	@$(BIN)/python -m tests.chaos --minutes $(MINUTES)

soak: $(INSTALLED)  ## MINUTES=60 of steady usage: whether memory stays flat; the report in soak-report
	@$(BIN)/python -m tests.soak --minutes $(if $(filter command line environment,$(origin MINUTES)),$(MINUTES),60)

# atheris is libFuzzer for Python. It is not to be had for every machine, so nothing else asks for it.
fuzz: $(INSTALLED)  ## hostile bytes for every decoder and parser, for MINUTES=10 in all
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-fuzz.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	@$(BIN)/python -m tests.fuzzing --minutes $(MINUTES)

faults: $(INSTALLED)  ## every fault with the tests that carry it; RUN=1 runs them
	@$(BIN)/python -m tests.faults $(if $(RUN),--run)

test-containers: $(INSTALLED)  ## the integration tests on containers, docker-compose.yml, and faults of three brokers
	@infra/docker/test

compose-test: $(INSTALLED)  ## docker-compose.yml: up, the demo while containers are killed, down; images are made if missing
	@infra/docker/test tests/containers/test_compose.py

lint: $(INSTALLED)  ## style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(INSTALLED)  ## put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(INSTALLED)  ## how fast every part is, beside its target; a table, and JSON in benchmarks/results
	@$(BIN)/python -m benchmarks

bench-long: $(INSTALLED)  ## the worker at ten million identifiers, the gateway for ten minutes: 4 GB of disk
	@$(BIN)/python -m benchmarks --only long --only gateway-long

lock: $(INSTALLED)  ## choose versions anew and write the lock files
	@printf "hatchling==1.27.0\neditables\n" | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --upgrade --extra local --extra demo --extra test \
		--output-file requirements.lock pyproject.toml -
	@printf "hatchling==1.27.0\neditables\n" | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --extra demo --constraint requirements.lock --no-emit-package pandas \
		--output-file infra/docker/requirements.lock pyproject.toml -
	@echo uv | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --upgrade --output-file requirements-uv.lock -
	@echo atheris==3.0.0 | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --upgrade --output-file requirements-fuzz.lock -

clean:  ## remove caches and the environment; data in .meterline stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
