# What people run here. A target sets up what it needs in .venv by itself, and is quick once that is done.
# Arguments for the program go in ARGS: make demo ARGS="--headless --seed 7", make test ARGS="-k clock".

PYTHON ?= python3
ARGS   ?=
BEDS   ?= $(if $(filter full,$(REPEATS)),1,2)
IN_BED := popen//python=python tests/cluster/enter.py python
BIN    := .venv/bin
LOCK   := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --all-build-deps \
          --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
SLOW   := $(wildcard tests/acceptance tests/bench tests/cluster tests/real)

export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-real test-cluster simulate lint format acceptance bench image docs lock clean

help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: .venv/run.stamp ## no cluster: watch a bad change lose orders and be rolled back, about a minute
	@canary demo $(ARGS)

test: .venv/test.stamp ## every test that needs Python alone
	@python -m pytest $(addprefix --ignore=,$(SLOW)) --numprocesses=3 --dist=loadfile --no-loadscope-reorder $(ARGS)

test-real: .venv/test.stamp ## the demo's shop and the controller as real processes: kills, freezes, bad pods; minutes
	@python -m pytest tests/real $(ARGS)

test-cluster: .venv/dev.stamp ## the main job on a real control plane, which Go builds once in ten minutes; Linux, minutes
	@python tests/cluster/programs.py
	@python tests/cluster/enter.py true
	@python -m pytest $(or $(TESTS),tests/cluster) --tx '$(BEDS)*$(IN_BED)' --dist=loadfile --no-loadscope-reorder $(ARGS)

simulate: .venv/test.stamp ## more of the simulated world: a death at every write, and SEEDS (100) of every trouble; minutes
	@CANARY_SIMULATIONS=all python -m pytest tests/simulation/test_crashes.py $(ARGS)
	@CANARY_SIMULATIONS=$(or $(SEEDS),100) python -m pytest tests/simulation/test_troubles.py $(ARGS)

lint: .venv/dev.stamp ## style (ruff) and types (pyright, strict)
	@ruff check canary tests && ruff format --check canary tests && pyright

format: .venv/dev.stamp ## let ruff write the style
	@ruff check --fix canary tests && ruff format canary tests

acceptance: .venv/test.stamp ## the demo over 20 seeds against its promise, minutes
	@python -m pytest tests/acceptance $(ARGS)

bench: .venv/bench.stamp ## measure the judge against the bound and against others; half an hour, ARGS=--quick for less
	@python -m pytest tests/bench
	@python tests/bench/detection.py $(ARGS)

image: ## build the image; needs docker, or DOCKER=podman
	@$(or $(DOCKER),docker) build --file deploy/Dockerfile --tag canary-controller:0.1.0 .

docs: .venv/run.stamp ## write the reference pages, the chart's CRDs and deploy/ anew; deploy/ needs helm
	@python tests/api/crd_reference.py > docs/reference/crd.md
	@python tests/cli/cli_reference.py > docs/reference/cli.md
	@python tests/core/pattern_reference.py > docs/reference/patterns.md
	@python tests/core/machine_walk.py
	@python tests/chart.py

lock: export CUSTOM_COMPILE_COMMAND = make lock
lock: .venv/dev.stamp ## pin the requirements anew; ARGS=--upgrade for newer releases
	@$(LOCK) $(ARGS) --output-file=requirements/run.txt pyproject.toml
	@$(LOCK) $(ARGS) --constraint=requirements/run.txt --extra=test --output-file=requirements/test.txt pyproject.toml
	@$(LOCK) $(ARGS) --constraint=requirements/test.txt --extra=test --extra=bench --output-file=requirements/bench.txt pyproject.toml
	@$(LOCK) $(ARGS) --constraint=requirements/bench.txt --extra=test --extra=dev --output-file=requirements/dev.txt pyproject.toml

clean: ## remove what was made here
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache build dist *.egg-info
	find canary tests -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'canary needs Python 3.11 or newer. Name one: make PYTHON=/usr/bin/python3.12 demo' >&2; exit 1; }
	@echo 'setting up .venv, once' >&2
	@$(PYTHON) -m venv .venv

.venv/%.stamp: requirements/%.txt pyproject.toml | .venv/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q canary
	@touch $@
