# `make demo` and `make test` need only make and Python; everything else is installed into .venv.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install demo test lint unit thorough end_to_end lowest constraints clean FORCE
# Containers often set this variable. Without bytecode files, every process compiles torch and mlflow again, which
# takes seconds.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted install does not count as finished. It holds the path of the checkout, because a
# virtual environment stops working when it is moved.
STAMP := $(VENV)/installed
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
STALE := FORCE
endif
# PYTHON=... chooses the interpreter of .venv.
PYTHON ?=
LOWEST := .venv-lowest

help:
	@echo "make demo        install, then a real sweep on generated scenes and its report"
	@echo "make test        install, then lint, types, import contracts and all tests"
	@echo "make lint        ruff, mypy, import contracts"
	@echo "make unit        the unit tests"
	@echo "make thorough    the tests that search widely or train: fuzzed files, memory, equality of fast paths"
	@echo "make end_to_end  the tests that run the real commands"
	@echo "make lowest      the unit tests with the lowest versions that pyproject.toml admits, in $(LOWEST)"
	@echo "make install     only create or refresh .venv (PYTHON=... chooses its interpreter)"
	@echo "make constraints write constraints.txt from the versions in .venv"
	@echo "make clean       remove $(VENV), $(LOWEST) and all caches; runs/, data/, reports/ and mlflow.db are kept"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(STALE)
	@rm -f $(STAMP)
	@found=; is_suitable='import sys, venv; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1 || ! $(BIN)/python -c "$$is_suitable" 2>/dev/null; then \
	    for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	        if "$$python" -c "$$is_suitable" 2>/dev/null; then found="$$python"; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "No suitable Python: $(or $(PYTHON),python3) is missing or older than 3.11." \
	            "Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	        exit 2; \
	    fi; \
	    echo "Creating $(VENV) with $$("$$found" --version)"; \
	    "$$found" -m venv --clear $(VENV) || { \
	        echo "Could not create $(VENV). On Debian and Ubuntu the venv module is a separate package:" \
	            "apt install python3-venv" >&2; \
	        exit 2; \
	    }; \
	fi
	@echo "Installing into $(VENV) (a few GB the first time)"
# uv takes a tenth of pip's time, but does not read pip's configuration (indexes, certificates).
	@{ $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv && \
	    $(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev]'; } || { \
	    echo "uv could not install: trying pip" >&2; \
	    $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'; }
	@echo "$(CURDIR)" > $(STAMP)

demo: $(STAMP)
# --resume: a second call continues an interrupted study, or only reports a finished one.
	$(BIN)/python sweeps/run.py --resume
	$(BIN)/python analysis/pareto.py --study demo
	@echo
	@echo "Every run, in MLflow: $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db"

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# --dist=loadfile: the tests of a file share fixtures that are slow to set up.
unit: $(STAMP)
	$(BIN)/pytest -m "not end_to_end and not thorough" --durations=15 --numprocesses=auto --dist=loadfile

thorough: $(STAMP)
	$(BIN)/pytest -m "thorough and not end_to_end" --durations=15 --numprocesses=auto --dist=loadfile

# Two files at a time: these tests mostly wait for processes that start, one after another.
end_to_end: $(STAMP)
	$(BIN)/pytest -m end_to_end --durations=15 --numprocesses=2 --dist=loadfile

# Without constraints.txt: direct requirements at their floors, everything below them at its newest. Deprecation warnings
# of old packages about their own dependencies are not failures.
$(LOWEST)/installed: pyproject.toml $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[test]'
	touch $@

lowest: $(LOWEST)/installed
	@$(LOWEST)/bin/python .ci/print_versions.py
	$(LOWEST)/bin/python -m pytest -m "not end_to_end and not thorough" --numprocesses=auto --dist=loadfile \
	    -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning

# One after another even under `make -j`: the steps share the machine's cores. The unit and the thorough tests run in
# one pytest session, which imports torch, Ray and MLflow once instead of twice.
test: $(STAMP)
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -m "not end_to_end" --durations=15 --numprocesses=auto --dist=loadfile
	@$(MAKE) --no-print-directory end_to_end

# Names and versions only: package indexes are configured per machine.
constraints: $(STAMP)
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' > constraints.new
	mv constraints.new constraints.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(LOWEST) build dist hkd.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find hkd sweeps analysis benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
