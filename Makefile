# Everything a contributor runs. `make` alone lists the targets. Needs Python 3.11 - 3.13; `make test` also Java 17 and
# Maven, and uses Go if it is there. Environment, jars and servers land in .venv and .cache, which git ignores.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements.lock
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## make the environment .venv from the lock file

.PHONY: check
check: lint ## lint, types, import contracts, tidy and unit tests (under a minute)
	$(BIN)/pytest -q tests/tidy tests/unit

.PHONY: test
test: lint services wheel ## everything: check, the built wheel, and all tests on a real Kafka and a real S3 server
	$(BIN)/pytest -q -n 2 --dist loadfile --ignore=tests/wheel tests

.PHONY: sim
sim: $(READY) ## simulate the protocol: SEEDS=10000 seeds from SEED=0 on, RULE=name switches a rule off
	$(BIN)/python -m tests.sim --seed $(or $(SEED),0) --seeds $(or $(SEEDS),10000) $(if $(RULE),--rule $(RULE))

.PHONY: demo
demo: $(READY) ## a job on two workers, one of them killed on the way, verified
	$(BIN)/tidegate demo

.PHONY: bench
bench: services ## measure the product on a real Kafka
	$(BIN)/python -m benchmarks.run $(ARGS)

.PHONY: lint
lint: $(READY) ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p tidegate
	$(BIN)/mypy tests
	PYTHONPATH=.typing $(BIN)/lint-imports --cache-dir .cache/import_linter

.PHONY: format
format: $(READY) ## put all files into the common form
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format

.PHONY: docs
docs: $(READY) ## bring the generated parts of docs/ up to date
	$(BIN)/python -m tests.tidy.generated

.PHONY: wheel
wheel: $(READY) ## build the wheel and run the fast tests against it in a clean environment
	$(BIN)/python tests/wheel/run.py

.PHONY: services
services: $(READY) ## download what the test servers need (Maven, Go)
	$(BIN)/python -m tests.services.downloads

.PHONY: broker
broker: $(READY) ## run a Kafka broker on 127.0.0.1:9092 until Ctrl-C
	$(BIN)/python -m tests.services.kafka --port 9092 --folder .cache/broker

.PHONY: s3
s3: $(READY) ## run an S3-compatible server on 127.0.0.1:9000 until Ctrl-C
	$(BIN)/python -m tests.services.s3 --port 9000 --folder .cache/s3

.PHONY: lock
lock: ## resolve the lock file anew (LOCK_ARGS=--upgrade for newer versions)
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/pip install -q 'uv>=0.9'
	.cache/lock/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --quiet $(LOCK_ARGS) -o $(LOCK)

.PHONY: clean
clean: ## remove the environment and everything made or downloaded
	rm -rf $(VENV) .cache build dist *.egg-info

$(READY): $(LOCK) pyproject.toml setup.cfg
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
		"Tidegate needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d; say which one: make setup PYTHON=python3.13" % v)'
	@$(PYTHON) -c 'import ensurepip' || { echo 'Python lacks venv; on Debian: apt-get install python3-venv' >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r $(LOCK)
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
