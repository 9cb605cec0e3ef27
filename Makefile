# Everything here works on a fresh machine with Python 3.11 or later, make and git.
# What is installed goes into .venv; what was installed once is not looked up again.

VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=

# A command may exist and yet fail (a version manager's stand-in), or lack venv: so each is tried.
PYTHON ?= $(shell for one in python3.13 python3.12 python3.11 python3; do \
	"$$one" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	>/dev/null 2>&1 && { echo "$$one"; break; }; done)

.PHONY: help demo test check docs bench matrix servers mutants chaos clean

help: ## Say what there is (the default)
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{printf "make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.installed-demo ## Run two services, a consumer and a Redis, and watch messages go by
	@$(RUN) -m example_app.demo $(ARGS)

test: $(VENV)/.installed-dev ## Run all tests; ARGS="-k name" for some
	$(RUN) -m pytest $(ARGS)

check: $(VENV)/.installed-dev ## Lint, format, types, documentation, container files, and the built packages
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	@folder=$$(mktemp -d) && $(RUN) -m sphinx -W --keep-going -n -q -b html docs "$$folder"; \
	code=$$?; rm -rf "$$folder"; exit $$code
	$(VENV)/bin/shellcheck .docker/*.sh
	$(VENV)/bin/hadolint Dockerfile example_app/Dockerfile
	@REDIS_PASSWORD=x MARIADB_ROOT_PASSWORD=x SUPPLY_DATABASE_PASSWORD=x \
	INVENTORY_DATABASE_PASSWORD=x \
	$(VENV)/bin/docker-compose --file docker-compose.yml --env-file /dev/null config -q
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(RUN) -m build --outdir "$$folder" . >"$$folder/log" 2>&1 || { cat "$$folder/log"; exit 1; }; \
	$(RUN) -m twine check --strict "$$folder"/*.whl "$$folder"/*.tar.gz && \
	$(RUN) -m check_wheel_contents "$$folder"/*.whl

docs: $(VENV)/.installed-dev ## Build the documentation into build/docs
	$(RUN) -m sphinx -W --keep-going -n -b html docs build/docs

bench: $(VENV)/.installed-dev ## Measure how fast a queue drains, and what JSON costs
	$(RUN) benchmarks/codec.py
	$(RUN) benchmarks/drain.py $(ARGS)

matrix: $(VENV)/.installed-dev ## Test redis-py 5 to 8 on each server; ARGS=--diagonal for a quick one
	$(RUN) -m tests.redis_versions $(ARGS)

servers: $(VENV)/.installed-dev ## Run the integration tests on each Redis and Valkey found here
	$(RUN) -m tests.servers

chaos: $(VENV)/.installed-dev ## Hurt everything for SECONDS=60, by a SEED=, and print the ledger
	$(RUN) -m tests.faults.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

mutants: $(VENV)/.installed-dev ## Take each guard of the protocol out, and see its test go red
	$(RUN) -m tests.mutants $(ARGS)

clean: ## Remove what was installed, built and cached
	rm -rf $(VENV) .venv-redis-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@"$(PYTHON)" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null || { echo 'This needs Python 3.11 or later with its venv module (on Debian:' \
	'apt-get install python3-venv). If you have one, name it: make PYTHON=/path/to/python3.' \
	>&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed-demo: pyproject.toml $(VENV)/.made
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[demo]"
	@touch $@

# It holds all that the demo needs, so that the demo has nothing left to install.
$(VENV)/.installed-dev: pyproject.toml $(VENV)/.made
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.installed-demo
