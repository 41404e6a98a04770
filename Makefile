# `make` prints what there is. Each target is a command or two that one could type as well.
.DEFAULT_GOAL := help

# The Python of the tools: 3.11 or later.
PYTHON ?= python3
# Passed on to ansible-playbook, pytest or audited_lock.py: make scenario1 ARGS="-e mlflow_local_store=sqlite"
ARGS ?=
SCENARIO ?=
BENCH ?=
# What `make audited-lock` locks, and `make wheelhouse` fetches wheels for.
MLFLOW ?= $(shell sed -n 's/^mlflow_version: //p' roles/mlflow/defaults/main.yml)
# The lock that `make wheelhouse` goes by.
LOCK ?= roles/mlflow/files/locks/mlflow-$(MLFLOW).txt
HOST_PYTHON ?= 3.11
HOST_ARCH ?= x86_64

export PATH := $(CURDIR)/.venv/bin:$(PATH)
TOOLS := .venv/.complete
UV := UV_SYSTEM_CERTS=true .venv/bin/uv
COMPILE := $(UV) pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header

help: ## Print this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-13s%s\n", $$1, $$2 }'

scenario1: $(TOOLS) ## Give this account a local MLflow, and prove it
	ansible-playbook playbooks/scenario1.yml $(ARGS)

scenario2: $(TOOLS) ## Make this Debian host a team's tracking server, and prove it (ARGS=-K asks for sudo's password)
	ansible-playbook playbooks/scenario2.yml $(ARGS)

scenario3: $(TOOLS) ## Give several data scientists a server, over SSH, and prove it (ARGS="-i inventories/<yours>")
	ansible-playbook playbooks/scenario3.yml $(ARGS)

test: $(TOOLS) ## Run all tests, on containers that they make themselves
	$(MAKE) --no-print-directory --jobs=2 lint images
	molecule/run.py --unit

proof: $(TOOLS) ## Have people train while parts die and operations go on, for an hour; writes docs/proof.md
	molecule/run.py --proof

images: $(TOOLS)
	molecule/lab/lab.py engine
	molecule/lab/lab.py images > /dev/null

molecule: $(TOOLS) ## Run the tests of all scenarios, or of one (SCENARIO=scenario1)
	molecule/run.py $(filter-out all,$(SCENARIO))

lint: $(TOOLS) ## Check the style of everything
	yamllint --strict .
	ansible-lint -q
	ruff check .
	ruff format --check .
	mypy

unit: $(TOOLS) ## Run the tests that need no container
	pytest --numprocesses=auto --dist=loadfile $(ARGS) tests smoke/tests

bench: $(TOOLS) ## Measure speed and size, all or BENCH=scenario1
	python -m bench $(BENCH)

wheelhouse: $(TOOLS) ## Fill wheelhouse/ for hosts without a network (MLFLOW=... HOST_PYTHON=3.11 HOST_ARCH=x86_64)
	mkdir -p wheelhouse
	# uv decides what the lock means for that Python and platform, pip downloads it.
	$(COMPILE) --no-deps --python-version $(HOST_PYTHON) --python-platform $(HOST_ARCH)-manylinux_2_28 \
	  $(LOCK) --output-file wheelhouse/lock.txt
	cat roles/seaweedfs/files/seaweedfs.txt >> wheelhouse/lock.txt
	pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest wheelhouse --requirement wheelhouse/lock.txt \
	  --python-version $(HOST_PYTHON) --implementation cp \
	  $(foreach glibc,28 27 24 17 12 5,--platform manylinux_2_$(glibc)_$(HOST_ARCH)) --platform manylinux2014_$(HOST_ARCH)

lock: $(TOOLS) ## Resolve every lock anew
	# On hosts each package has one version, whatever their Pythons: a model that one has logged is served by another.
	$(COMPILE) --universal --upgrade --python-version 3.11 requirements.in --output-file requirements.txt
	cd roles/mlflow/files && for name in uv $(patsubst roles/mlflow/files/%.in,%,$(wildcard roles/mlflow/files/locks/*.in)); do \
	  $(CURDIR)/$(COMPILE) --universal --upgrade --python-version 3.11 --fork-strategy fewest $$name.in --output-file $$name.txt || exit; done

audited-lock: $(TOOLS) ## Make the lock of one version, if it has no known holes (MLFLOW=3.18.1 ARGS="--service osv")
	python tools/audited_lock.py $(ARGS) $(MLFLOW)

docs: $(TOOLS) ## Write the variable tables anew from the roles' specs
	python docs/generate.py

clean: ## Remove what make and the tests have made here, hosts included
	if [ -d .lab ]; then molecule/lab/lab.py down --all; fi
	rm -rf .venv .lab .cache .mypy_cache .pytest_cache .ruff_cache .ansible wheelhouse ops-mlflow-*.tar.gz

# The tools, again when their lock has changed. uv comes first, by the very lock that hosts use. Compiled
# once: where PYTHONDONTWRITEBYTECODE is set, each ansible-playbook would compile Ansible anew. (A file that this
# Python cannot compile is no reason to stop: it may never be imported.)
$(TOOLS): requirements.txt roles/mlflow/files/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, and $(PYTHON) is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) lacks its venv module. Debian: sudo apt install python3-venv" >&2; exit 1; }
	@command -v git >/dev/null || { echo "git is needed. Debian: sudo apt install git" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install --quiet --require-hashes --requirement roles/mlflow/files/uv.txt
	$(UV) pip sync --quiet --require-hashes --python .venv/bin/python requirements.txt
	.venv/bin/python -W ignore -m compileall -qq -j 0 -x 'ansible_collections|/tests/' .venv/lib || true
	touch $@

.PHONY: help scenario1 scenario2 scenario3 test images lint unit molecule bench wheelhouse lock audited-lock docs clean
