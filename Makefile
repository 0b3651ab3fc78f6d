# One way to do each task, the same by hand and in CI. Needs Python >= 3.11, pip and make; the rest is set up here.
PYTHON ?= python3
VENV   := .venv
DEMO   := build/demo
DOCS   := build/docs-venv
BIN    := $(VENV)/bin
PIP    := pip==26.3
JUNIT   = --junitxml "$(or $(CONTRACT_REPORT),contract-report)/junit.xml" -o junit_family=xunit1
SOURCES := openapi.yaml pyproject.toml README.md LICENSE $(shell find src generated -name '*.py' -o -name py.typed)

.DEFAULT_GOAL := help
.PHONY: help demo test generate check contract contract-real contract-proxies mutants mock chaos soak drift bench docs docs-check build release clean
.PHONY: check-generated check-style check-types check-types-of-users check-workflows check-version
.SUFFIXES:
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO)/.ready ## Cancel a running batch on a mock, through the installed package
	@$(DEMO)/bin/python scripts/demo.py

test: $(VENV)/.ready $(DEMO)/.ready ## Run every test but the long ones: mutants, contract-proxies, chaos and soak
	@rm -f .coverage .coverage.*
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m coverage run -m pytest -p scripts.coverage_pauses \
	  -n 2 --dist worksteal -m 'not mutants'
	@$(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report

generate: $(VENV)/.ready ## Write generated/ from openapi.yaml
	@$(BIN)/python scripts/generate.py

check: $(VENV)/.ready ## Check what is generated, formatting, lint, types, workflows and the version's step
	@$(MAKE) --no-print-directory --keep-going --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) \
	  check-types check-types-of-users check-generated check-style check-workflows check-version

check-types:
	$(BIN)/mypy

check-types-of-users:
	$(BIN)/pyright --warnings --pythonpath $(BIN)/python

check-generated:
	$(BIN)/python scripts/generate.py --check

check-style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check-workflows:
	$(BIN)/zizmor --quiet --offline --no-progress --pedantic .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

check-version:
	$(BIN)/python -m scripts.gate

contract: $(VENV)/.ready ## Check the mock against the contract, clause by clause
	@$(BIN)/python -m pytest contract_tests/test_contract.py --quiet --no-header -r f --contract-target mock $(JUNIT)

contract-real: $(VENV)/.ready ## Check a server against the contract: CONFIG=real.toml, key in MIXPEEK_API_KEY
	@$(BIN)/python -m pytest contract_tests/test_contract.py --quiet --no-header -r f --contract-target real \
	  --contract-config "$(CONFIG)" $(JUNIT)

contract-proxies: $(VENV)/.ready ## Check the mock behind nginx, HAProxy, Apache httpd and Caddy, as far as they are installed
	@$(BIN)/python -m pytest contract_tests/test_proxies.py --quiet --no-header -r fs -n 2 --dist worksteal \
	  --contract-proxies

mutants: $(VENV)/.ready ## Prove that the contract tests notice breaches
	@$(BIN)/python -m pytest contract_tests/test_mutants.py --quiet --no-header -r f -m mutants -n 2

mock: $(DEMO)/.ready ## Run the mock on a free port until Ctrl-C
	@$(DEMO)/bin/mixpeek-batches mock

chaos: $(VENV)/.ready ## Cancel 10,000 batches each way at a mock that fails a third of all attempts
	@$(BIN)/python -m scripts.chaos

soak: $(VENV)/.ready ## Keep the mock under load and watch memory and descriptors: SECONDS=120
	@$(BIN)/python -m scripts.soak $(SECONDS)

drift: $(VENV)/.ready ## Compare with the vendor's document: UPSTREAM=file-or-url FORMAT=json|markdown
	@$(BIN)/python -m scripts.drift $(if $(UPSTREAM),"$(UPSTREAM)") $(if $(FORMAT),"--$(FORMAT)")

bench: $(VENV)/.ready ## Measure side by side with what else there is: ONLY=limits|bulk|call|start|import|mock QUICK=1
	@$(BIN)/python benchmarks/run.py $(if $(ONLY),--only "$(ONLY)") $(if $(QUICK),--quick)

docs: $(DOCS)/.ready contract ## Build the documentation into site/, with a new contract report; fails on a broken link
	@rm -rf .cache site
	@$(DOCS)/bin/python -m scripts.docs
	@$(DOCS)/bin/zensical build --clean --strict
	@rm -rf .cache

docs-check: docs ## Look at the documentation in a headless Chromium; screenshots go to build/screenshots/
	@$(DOCS)/bin/python -m scripts.docs_check

build: $(VENV)/.ready ## Build wheel and sdist into dist/, and use them in clean environments
	@$(BIN)/python -m scripts.build
	@$(BIN)/python -m scripts.verify

release: $(VENV)/.ready ## Check, build, commit and tag a release: VERSION=x.y.z; nothing is uploaded
	@$(BIN)/python -m scripts.release "$(VERSION)"

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist site contract-report .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The development environment: this checkout, editable, with every tool at its pinned version.
$(VENV)/.ready: pyproject.toml constraints.txt openapi.yaml
	@echo "Setting up $(VENV) ..." && $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check '$(PIP)'
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[cli,mock]' --group dev
	@touch $@

# What users get: the wheel, installed with its extras and without any tool of ours.
$(DEMO)/.ready: $(SOURCES) constraints.txt
	@echo "Setting up $(DEMO) ..." && $(PYTHON) -m venv --clear $(DEMO)
	@$(DEMO)/bin/python -m pip install -qq --disable-pip-version-check '$(PIP)'
	@$(DEMO)/bin/python -m pip wheel -qq --no-deps --wheel-dir $(DEMO)/wheel .
	@$(DEMO)/bin/python -m pip install -qq --constraint constraints.txt "$$(ls $(DEMO)/wheel/*.whl)[cli,mock]"
	@touch $@

# What builds the documentation: nothing else needs it.
$(DOCS)/.ready: pyproject.toml constraints.txt openapi.yaml
	@echo "Setting up $(DOCS) ..." && $(PYTHON) -m venv --clear $(DOCS)
	@$(DOCS)/bin/python -m pip install -qq --disable-pip-version-check '$(PIP)'
	@$(DOCS)/bin/python -m pip install -qq --constraint constraints.txt --editable '.[cli,mock]' --group docs
	@touch $@
