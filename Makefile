# `make` prints what there is. Each target is one command that could be typed as well.
SHELL := /bin/sh
.DEFAULT_GOAL := help
SCENARIO ?= all
BENCH ?= all
ARGS ?=

PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

help: ## Print this
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-11s %s\n", $$1, $$2 }'

scenario1: .venv ## Give this account a local MLflow and prove it (ARGS="-e ..." is passed on)
	ansible-playbook playbooks/scenario1.yml $(ARGS)

test: lint unit ## Run every check: lint, unit tests, and all Molecule scenarios

lint: .venv ## Check the style of everything
	yamllint --strict .

unit: .venv ## Run the tests that need no host
	pytest $(ARGS)

# The tools, again when their lock changes. uv is the first, by the very lock that hosts use.
.venv: requirements.txt roles/mlflow/files/uv.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --require-hashes --requirement roles/mlflow/files/uv.txt
	UV_SYSTEM_CERTS=true $(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements.txt
	touch .venv

.PHONY: help scenario1 test lint unit
