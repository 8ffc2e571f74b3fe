# `make` prints this help. Everything is installed into .venv from hashed locks; nothing else on the machine is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# What Python has compiled is kept: hundreds of processes start in a test run, and pytest rewrites each test's module.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install slurm acme check test demo crash bench lock asyncapi up down logs test-containers clean

help:  ## this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(BIN)/.installed slurm acme  ## the virtual environment, and a real Slurm and ACME server when root on Debian

$(BIN)/.installed: deploy/requirements-dev.lock pyproject.toml tests/install_venv.sh
	sh tests/install_venv.sh $(PYTHON)
	touch $@

slurm:
	@sh tests/install_slurm.sh

acme:
	@sh tests/install_acme.sh

check: $(BIN)/.installed  ## ruff, mypy --strict, import contracts, house rules, fresh AsyncAPI
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	pytest -q tests/unit/test_house_rules.py

test: install  ## all tests, against a real nats-server and, where installed, a real Slurm
	pytest -q -n 4

demo: install  ## the main job end to end: grid jobs in, job agents through Slurm, MonALISA out (SLURM=model, KILL=1)
	python -m tests.e2e.demo --slurm $(or $(SLURM),auto) $(if $(KILL),--kill)

crash: install  ## exactly one batch job per job agent, whatever is killed, lost or late (AGENTS=100 SEED=1 SLURM=model)
	python -m tests.e2e.crash --agents $(or $(AGENTS),100) --seed $(or $(SEED),1) --slurm $(or $(SLURM),model)

COMPOSE := docker compose --profile world
up: $(BIN)/.installed  ## the house and its world in containers, with a real Slurm (finds, or as root on Debian starts, an engine)
	python -m tests.containers.engine images
	NACRE_HEALTH_INTERVAL=$(or $(NACRE_HEALTH_INTERVAL),3s) $(COMPOSE) up --build --detach --wait

down:  ## stop the containers of `make up`, forget their state, stop the engine if `make up` started it
	$(COMPOSE) down --volumes --remove-orphans
	python -m tests.containers.engine down

logs:  ## follow what the containers of `make up` say
	$(COMPOSE) logs --follow --tail 100

test-containers: $(BIN)/.installed  ## the demo's journey inside containers (skipped with a message where none can be had)
	python -m tests.containers

bench: install  ## speed and memory into build/bench.json
	python -m tests.bench

LOCK := uv pip compile -q --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --prerelease if-necessary-or-explicit --python-version 3.11
lock: $(BIN)/.installed  ## resolve pyproject.toml into the hashed locks
	$(LOCK) -o deploy/requirements.lock pyproject.toml
	$(LOCK) --extra dev -c deploy/requirements.lock -o deploy/requirements-dev.lock pyproject.toml
	$(LOCK) -c deploy/requirements-dev.lock -o deploy/requirements-build.lock deploy/requirements-build.in
	$(LOCK) -c deploy/requirements-dev.lock -o tests/containers/requirements.lock tests/containers/requirements.in

asyncapi: $(BIN)/.installed  ## render deploy/asyncapi/current.json from libs/events
	python -m libs.events.asyncapi deploy/asyncapi/current.json

clean:  ## remove what was built (not the locks)
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
