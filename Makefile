# Fairlead: what a stranger types. Python 3.11 or newer, make and a C library are all that this needs.

SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
JVM_LOCK := deploy/embedded/jvm.lock.toml
SOURCES := bench contracts deploy examples fairlead services tests

.PHONY: help demo test up down status check bench chaos format set-up clean

help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: up ## Start the platform and play the whole loop on real data
	@$(RUN) -m examples.demo

test: set-up ## Run the whole test suite against its own Kafka and PostgreSQL
	@$(RUN) -m pytest $(ARGS)

up: set-up ## Start the platform
	@$(RUN) -m deploy.embedded up

down: ## Stop the platform
	@if [ -x $(RUN) ]; then $(RUN) -m deploy.embedded down; else echo "nothing runs: nothing is set up"; fi

status: ## Show what runs, where, since when
	@if [ -x $(RUN) ]; then $(RUN) -m deploy.embedded status; else echo "nothing runs: nothing is set up"; fi

bench: set-up ## Measure beside the bare limits in one run (ARGS="rest --rounds 3")
	@$(RUN) -m bench $(ARGS)

chaos: set-up ## Kill services under load and count what is left; SEED=… throws the same dice again
	@FAIRLEAD_CHAOS_SEED=$(SEED) $(RUN) -m pytest tests/chaos $(ARGS)

check: set-up ## Check format, lint, types, import rules and contracts
	@$(VENV)/bin/ruff format --check $(wildcard $(SOURCES))
	@$(VENV)/bin/ruff check $(wildcard $(SOURCES))
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/basedpyright
	@$(RUN) -m contracts.check

format: set-up ## Bring the code into its form
	@$(VENV)/bin/ruff format $(wildcard $(SOURCES))
	@$(VENV)/bin/ruff check --fix $(wildcard $(SOURCES))

set-up: $(VENV)/.stamp $(VENV)/.jvm $(if $(wildcard services/console/package-lock.json),$(VENV)/.console) ## Install everything into this folder

# The environment, exactly as requirements.lock says; a lock file that changed is installed again.
$(VENV)/.stamp: requirements.lock pyproject.toml deploy/set-up.sh
	@sh deploy/set-up.sh $(PYTHON) $(VENV)
	@touch $@

# The Java libraries of the embedded Kafka.
$(VENV)/.jvm: $(JVM_LOCK) $(VENV)/.stamp
	@echo "fetching Kafka"
	@$(RUN) -m deploy.embedded.jvm
	@touch $@

# What the console's pages load, by the npm that came with the environment.
$(VENV)/.console: services/console/package-lock.json $(VENV)/.stamp
	@echo "fetching the console's scripts"
	@cd services/console && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm ci --loglevel error --no-audit --no-fund --ignore-scripts >/dev/null || \
	{ printf 'error: %s\n  %s\n' "cannot fetch what $< names" \
	"Check the network; for a broken $< restore it from the repository." >&2; exit 1; }
	@touch $@

clean: down ## Remove what was installed; the data in FAIRLEAD_HOME stays
	rm -rf $(VENV) .cache services/console/node_modules
