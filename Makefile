# `make help` lists the targets. Start with `make demo`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The targets of the pipeline need each other's files, so `make -j features head roc` must keep their order.
.NOTPARALLEL:

VENV ?= .venv
BIN := $(VENV)/bin
# What a user needs, and what work on the code needs beside it.
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools
# Optional features to install: EXTRAS=dicom,parquet
EXTRAS ?=

BACKBONE ?= densenet121
STUDY ?= sample
PASSES ?= 2
SIZE ?=
WEIGHTS ?= auto
HEAD ?= logistic
WEIGHTED ?=
RUN ?=
ARGS ?=
# Test files that run side by side. Each that needs TensorFlow takes about a gigabyte.
JOBS ?= 2

##@ Start

venv: $(STAMP)  ## Make the environment and install cxrfeat, once [EXTRAS=dicom,parquet]

demo: $(STAMP)  ## The whole pipeline on the embedded sample: embeddings, head, ROC curves, Grad-CAM
	$(BIN)/cxrfeat demo $(ARGS)

doctor: $(STAMP)  ## Check this machine and say how to fix what is wrong
	$(BIN)/cxrfeat doctor $(ARGS)

##@ The pipeline (on the sample unless STUDY names another; ARGS="..." is passed to the command)

features: $(STAMP)  ## Embeddings of a study: BACKBONE=densenet121 [STUDY= PASSES= SIZE= WEIGHTS=]
	$(BIN)/cxrfeat extract $(STUDY) --backbone $(BACKBONE) --passes $(PASSES) $(if $(SIZE),--size $(SIZE)) --weights $(WEIGHTS) $(ARGS)

head: $(STAMP)  ## A head on the newest embeddings: WEIGHTED=1 [HEAD=logistic STUDY=]
	$(BIN)/cxrfeat fit-head --study $(STUDY) --head $(HEAD) $(if $(filter-out 0 no,$(WEIGHTED)),--weighted) $(ARGS)

roc: $(STAMP)  ## ROC curves of the newest head [RUN=]
	$(BIN)/cxrfeat roc $(if $(RUN),--run $(RUN)) $(ARGS)

gradcam: $(STAMP)  ## Maps of the evidence for each finding, by the newest head [RUN=]
	$(BIN)/cxrfeat gradcam $(if $(RUN),--run $(RUN)) $(ARGS)

paper: $(STAMP)  ## Reproduce the reference paper's experiment [STUDY=]
	$(BIN)/cxrfeat reproduce paper $(STUDY) $(ARGS)

##@ Work on the code

tools: $(TOOLS)  ## Install what work on the code needs: pytest, linters, the site

lint: $(TOOLS)  ## Style, formatting, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(TOOLS)  ## The tests [ARGS="tests/test_study.py -k leak"]
	$(BIN)/pytest -m "not soak" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(TOOLS)  ## The long form of the fault tests
	$(BIN)/pytest -m soak $(ARGS)

BENCHMARKS := $(filter-out %/harness.py %/page.py,$(wildcard benchmarks/[a-z]*.py))

bench: $(STAMP)  ## Every benchmark, ours and the peer's, and docs/performance.md from the results
	set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script $(ARGS); done
	$(BIN)/python benchmarks/page.py

docs: $(TOOLS)  ## The site, in site/, with docs/commands.md from the commands' own help; every link is checked
	$(BIN)/python docs/build.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

wheel: $(STAMP)  ## Build dist/, install the wheel into a bare environment, and run the demo there
	.ci/wheel $(BIN)/python

hooks: $(TOOLS)  ## Let git check every commit (pre-commit); ARGS=--all-files checks everything now
	$(if $(ARGS),$(BIN)/pre-commit run $(ARGS),$(BIN)/pre-commit install)

release-notes: $(TOOLS)  ## Show changes since the last release [VERSION=0.2.0 moves them into CHANGELOG.md]
	$(BIN)/towncrier build $(if $(VERSION),--yes --version $(VERSION),--draft --version unreleased)

clean:  ## Remove build products and tool caches; keeps the environment, cache/, runs/ and studies/
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find cxrfeat cli tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

help:  ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment: any CPython from 3.11 to 3.13. A name can be there and not run (a version manager's shim), or run and
# lack ensurepip (Debian without python3-venv), so each is tried before it is chosen. PYTHON=... names one.
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3 python)
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

$(STAMP): pyproject.toml
	@if ! $(BIN)/python -c '' >/dev/null 2>&1; then \
	  for python in $(PYTHONS); do \
	    if "$$python" -c '$(FITS)' >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "make: no usable Python: cxrfeat needs CPython 3.11, 3.12 or 3.13 with its venv module (on Debian and" >&2; \
	    echo "  Ubuntu: apt install python3-venv). Tried: $(PYTHONS). Name another with: make $(or $(MAKECMDGOALS),venv) PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$("$$found" --version) ($$found)"; \
	  "$$found" -m venv --clear $(VENV); \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@echo "installing cxrfeat and what it needs into $(VENV); TensorFlow is large, this takes some minutes once"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.$(if $(EXTRAS),[$(EXTRAS)])'
	@touch $@

$(TOOLS): $(STAMP)
	@echo "installing what work on the code needs into $(VENV): pytest, linters, the site"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --group dev
	@touch $@

.PHONY: demo doctor features head roc gradcam paper venv tools lint test soak bench docs wheel hooks release-notes clean help
