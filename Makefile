# Everything starts from a bare machine with Python 3.11 or later, git and make: the targets make .venv themselves.
#   make demo          the main job on the embedded target
#   make test          linters and tests, with whatever real peers this machine has
# PYTHON=/path/to/python picks the interpreter; PYTEST_ARGS='-k ladder' is passed on to pytest.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK_VENV := build/lock-venv
WORKERS ?= auto
PYTEST_ARGS ?=
PIP := pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint format lock fuzz bench docs wheel clean
.DELETE_ON_ERROR:

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name text; \
	do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: $(READY)  ## set everything up and run the main job on the embedded target
	@$(BIN)/python -m countersign demo

test: lint  ## set everything up, lint, run the tests (counts scaled down)
	$(BIN)/pytest -n $(WORKERS) $(PYTEST_ARGS)

test-long: lint  ## the same with the full counts
	$(BIN)/pytest -n $(WORKERS) --long $(PYTEST_ARGS)

lint: $(READY)  ## ruff and mypy, as in CI and before a commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff lay the code out and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(READY)  ## the decoders against mutated input for FUZZ_SECONDS (60), with atheris where there is a wheel of it
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	  || $(BIN)/$(PIP) install --quiet --only-binary :all: --require-hashes -r fuzz/requirements.lock \
	  || echo 'atheris cannot be had here: a plain loop does without it'
	$(BIN)/python fuzz/run.py --seconds $(or $(FUZZ_SECONDS),60)

bench: $(READY)  ## a measurement: handshakes, or BENCH=imports, store or another of bench/, with BENCH_ARGS
	$(BIN)/python -m bench.$(or $(BENCH),handshakes) $(BENCH_ARGS)

docs: $(READY)  ## the handbook, in build/docs; a link that leads nowhere is an error, and nothing is fetched
	$(BIN)/python -m sphinx -n -W --keep-going -E -q -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

wheel: $(READY)  ## the wheel, in dist/
	$(BIN)/python -m hatchling build -t wheel

# --no-emit-options: where this machine fetches its packages from stays out of the file.
lock:  ## remake requirements.lock and fuzz/requirements.lock from pyproject.toml (UPGRADE=1 for the newest versions)
	@$(call with_python,rm -rf $(LOCK_VENV) && "$$python" -m venv $(LOCK_VENV))
	$(LOCK_VENV)/bin/$(PIP) install --quiet 'pip-tools>=7.5'
	CUSTOM_COMPILE_COMMAND='make lock' $(LOCK_VENV)/bin/pip-compile --quiet $(if $(UPGRADE),--upgrade) \
	  --generate-hashes --allow-unsafe --strip-extras --extra dev --all-build-deps \
	  --no-emit-options \
	  --output-file requirements.lock pyproject.toml
	$(LOCK_VENV)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["fuzz"], sep="\n")' \
	  | CUSTOM_COMPILE_COMMAND='make lock' $(LOCK_VENV)/bin/pip-compile --quiet $(if $(UPGRADE),--upgrade) \
	  --generate-hashes --strip-extras --no-emit-options --no-annotate --output-file fuzz/requirements.lock -

clean:  ## remove what the targets made, .venv too
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A changed lock or pyproject.toml means a new environment: nothing of the old one stays behind.
$(READY): requirements.lock pyproject.toml
	@$(call with_python,rm -rf $(VENV) && "$$python" -m venv $(VENV))
	@echo "installing the pinned versions into $(VENV)"
	@$(BIN)/$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(BIN)/$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/$(PIP) check
	@touch $@

# A name on PATH may be a shim with nothing behind it, so each candidate is run.
define with_python
for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python); do \
  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
      echo "$$python has no venv module: install it (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; \
    fi; \
    $(1); exit; \
  fi; \
done; \
echo "countersign needs Python 3.11 or later, and none was found (PYTHON=/path/to/python picks one)" >&2; exit 1
endef
