# Each target installs what it needs first; nothing has to be done before.
# `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# Programs that are built in C (pip, protoc) find our tools without activation.
export PATH := $(CURDIR)/$(BIN):/usr/sbin:/sbin:$(PATH)

RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
SLURM := $(VENV)/.installed-slurm
PACKAGE := $(VENV)/.installed-package
ALL := $(VENV)/.installed-all

.PHONY: help install demo test lint format bench test-slurm test-packages test-faults proto dist deb rpm tarball clean

help: ## List the targets
	@printf 'Jobledger: make TARGET\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(RUN): pyproject.toml scripts/install.sh
	@scripts/install.sh run

$(DEV): pyproject.toml scripts/install.sh
	@scripts/install.sh dev

$(SLURM): pyproject.toml scripts/install.sh
	@scripts/install.sh slurm

$(PACKAGE): pyproject.toml scripts/install.sh
	@scripts/install.sh package

$(ALL): pyproject.toml scripts/install.sh
	@scripts/install.sh all

install: $(DEV) ## Install everything: system packages (apt), .venv, test tools

demo: $(RUN) ## Run the real programs on captured records and serve them until Ctrl-C
	@jobledger demo

# Most tests wait for programs that they started: more workers than two cores. Those of
# faults time what they do to them, and have the machine to themselves.
test: $(DEV) ## Run the tests (SQLite, PostgreSQL, Chromium; not Slurm)
ifeq ($(strip $(ARGS)),)
	@pytest -q -n 3 --dist worksteal --ignore tests/faults
	@pytest -q tests/faults
else
	@pytest -q $(ARGS)
endif

test-slurm: $(SLURM) ## Start a real Slurm, submit jobs, see each priced once
	@pytest -q -m slurm tests/slurm $(ARGS)

test-packages: $(ALL) ## Install the packages in a clean Debian and boot it (as root)
	@pytest -q -m packages tests/packaging $(ARGS)

test-faults: $(DEV) ## Hours of faults: 20,000 kills, 1 M records each, a night's partition, 1 M seeds
	@JOBLEDGER_TEST_PARTITION_S=1800 pytest -q -m "not slurm and not packages" --timeout 7200 \
	    tests/faults $(ARGS)
	@JOBLEDGER_SIMULATION_SEEDS=1000000 pytest -q --timeout 36000 tests/simulation
	@JOBLEDGER_EVERY_BYTE=1 pytest -q tests/agent/test_spool_damage.py

lint: $(DEV) ## Check style, types, imports and the contract
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	buf lint proto
	buf breaking proto --against tests/proto/released/v1.binpb

format: $(DEV) ## Rewrite the source as the formatter wants it
	ruff check --fix-only --quiet .
	ruff format .

bench: $(DEV) ## Measure file -> agent -> gRPC -> priced in PostgreSQL, against plain COPY
	@python -m tests.bench $(ARGS)

proto: $(DEV) ## Generate the Python of the contract again after editing usage.proto
	python -m grpc_tools.protoc -Iproto --python_out=proto --pyi_out=proto \
	    --grpc_python_out=proto jobledger_proto/v1/usage.proto

dist: $(DEV) ## Build the wheel into dist/
	python -m pip wheel --quiet --no-deps --wheel-dir dist .

deb: $(PACKAGE) ## Build the agent's .deb into dist/ (ARGS='--python 3.13' for another)
rpm: $(PACKAGE) ## Build the agent's .rpm into dist/
tarball: $(PACKAGE) ## Build the agent in one archive, for sites without packages
deb rpm tarball:
	@python -m scripts.package $@ $(ARGS)

clean: ## Remove what was built, the virtual environment too
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
