# What a newcomer needs is `make demo` and `make test`: both set everything up first, and only once.
#
#   PYTHON=python3.12     the interpreter that the environment is made with (default: the first that fits)
#   PIP_FLAGS=…           further options for pip, for instance an index with CPU-only wheels of torch
#   PYTEST_FLAGS=…        further options for pytest
#   SEED=3                which of the long tests `make test` takes; what `make soak` does (with MINUTES=60)
#   IMAGES=FOLDER         pictures for `make bench`

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Kernels are compiled once and kept here, for each state of the sources in a folder of its own.
KERNELS := $(CURDIR)/$(VENV)/kernels
export FFX_CACHE_DIR := $(KERNELS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all cluster-test soak lint format bench clean prune

help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) prune ## Make .venv and install ffx with its tools into it (the others do this by themselves).

demo: setup ## Write a small real data set, train a ResNet on it, print the table; all under runs/.
	$(BIN)/python examples/demo.py

test: setup ## Run the suite, a SEEDed sample of its long tests and no slow ones (ten minutes on two cores).
	FFX_TEST_SEED="$(SEED)" $(BIN)/python -m pytest -m "not slow" -n 2 $(PYTEST_FLAGS)

test-all: setup ## Run every test.
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

cluster-test: setup ## Run the tests that submit jobs to a SLURM of one node of their own (root; apt-get install slurm-wlm munge).
	$(BIN)/python -m pytest -m cluster -rs $(PYTEST_FLAGS)

soak: setup ## Loader and writer under faults for MINUTES (default 10): make soak MINUTES=60 SEED=3.
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),10) --seed $(or $(SEED),0)

lint: setup ## Check style, formatting, types and shell scripts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@for script in .ci/run $$(git ls-files -co --exclude-standard '*.sh' '*.batch' '*.sbatch'); do bash -n "$$script" || exit 1; done
	@if command -v shellcheck > /dev/null; then \
		shellcheck .ci/run $$(git ls-files -co --exclude-standard '*.sh' '*.batch' '*.sbatch'); \
	fi

format: setup ## Put the sources into the project's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Measure the loader beside its peers, print goals beside measured: make bench IMAGES=FOLDER.
	@if [ -z "$(IMAGES)" ]; then \
		echo "make bench: say which pictures to use, for instance: make bench IMAGES=/data/imagenet/val" >&2; exit 2; \
	fi
	$(BIN)/python -m benchmarks loader --images "$(IMAGES)" --out benchmarks/results/loader.jsonl
	$(BIN)/python -m benchmarks report --readme README.md
	-$(BIN)/python -m benchmarks goals

clean: ## Remove the environment, build products and caches (never runs/ or results).
	rm -rf $(VENV) build dist ./*.egg-info .hypothesis .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Compiled copies of sources that are no longer these: all but the newest three.
prune: $(STAMP)
	@ls -dt $(KERNELS)/ffx/kernels-*/ 2> /dev/null | tail -n +4 | xargs -r rm -rf

# The stamp is newer than pyproject.toml exactly when what that file asks for is installed.
$(STAMP): pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --upgrade $(PIP_FLAGS) "pip>=23.1"
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) --editable ".[dev,demo]"
	@touch $@

$(BIN)/python:
	@scripts/make_environment.sh $(VENV)
