# Everything here starts from a fresh clone: it needs Python >= 3.10, a C
# compiler and make, and puts what it makes into .venv and build.

PYTHON ?= python3
CC ?= cc
JOBS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
PIP := $(PY) -m pip install -q --disable-pip-version-check

C_SOURCES := $(wildcard src/*/*.c)
C_HEADERS := $(wildcard src/*/*.h)

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help build demo test ctest pytest endurance bench bench-quick asan tsan valgrind refleak fuzz \
	soak analyze lint format clean FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# --- the package, in .venv ---------------------------------------------------

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip "setuptools>=77"
	@mkdir -p $(STAMPS) && touch $@

# Holds the flags setup.py looks at, and changes only when one of them does.
BUILD_FLAGS = $(CC) $(CFLAGS) debug=$(AB_DEBUG) sanitize=$(AB_SANITIZE) \
	coverage=$(AB_COVERAGE) werror=$(AB_WERROR)
$(STAMPS)/flags: $(STAMPS)/venv FORCE
	@echo '$(BUILD_FLAGS)' | cmp -s - $@ || echo '$(BUILD_FLAGS)' > $@

# Editable: the tests see the Python files of the checkout as they are.
$(STAMPS)/package: $(STAMPS)/venv $(STAMPS)/flags pyproject.toml setup.py \
		$(C_SOURCES) $(C_HEADERS)
	PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

# The package is there already, so this installs what the extra names, no more.
$(STAMPS)/test $(STAMPS)/lint $(STAMPS)/demo $(STAMPS)/bench $(STAMPS)/soak: \
		$(STAMPS)/%: pyproject.toml | $(STAMPS)/package
	$(PIP) "async-batcher[$*]"
	@touch $@

build: $(STAMPS)/package ## Build the extension and install the package, editable, into .venv

# --- tests ------------------------------------------------------------------

test: ## Run the C tests, then the Python tests
	@$(MAKE) --no-print-directory ctest
	@$(MAKE) --no-print-directory pytest

pytest: $(STAMPS)/package $(STAMPS)/test ## Run the Python tests; ARGS="-k name" chooses
	$(PY) -m pytest $(ARGS)

# The core and its tests, one plain executable; a folder for each sanitizer.
SAN ?=
comma := ,
CTEST_DIR := build/ctest$(if $(SAN),-$(subst $(comma),-,$(SAN)))
CTEST := $(CTEST_DIR)/ctest
CTEST_DEFINES := -DAB_DEBUG
# A child of a fork starts an aggregation thread of its own.
CTEST_ENV := $(if $(findstring thread,$(SAN)),TSAN_OPTIONS="die_after_fork=0 $$TSAN_OPTIONS")
CTEST_CFLAGS := -std=c11 -Wall -Wextra -Wshadow -Wpedantic -Wconversion -Werror \
	-g $(if $(SAN),-O1 -fsanitize=$(SAN) -fno-omit-frame-pointer,-O0) \
	$(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined) \
	-pthread -Isrc -Itests/c $(CTEST_DEFINES)
CTEST_OBJECTS := $(patsubst %.c,$(CTEST_DIR)/%.o,$(wildcard src/core/*.c) \
	$(filter-out tests/c/fuzz_%,$(wildcard tests/c/*.c)))

ctest: ## Run the C tests; SAN=address,undefined or SAN=thread builds them so
	@$(MAKE) --no-print-directory -j$(JOBS) $(CTEST)
	$(CTEST_ENV) $(CTEST) $(ARGS)

$(CTEST): $(CTEST_OBJECTS)
	$(CC) $(CTEST_CFLAGS) -o $@ $^

$(CTEST_DIR)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CTEST_CFLAGS) -MMD -MP -c -o $@ $<

-include $(CTEST_OBJECTS:.o=.d)

# How often what goes wrong rarely is tried: as often as the scenarios say.
WHOLE := AB_EXITS=300 AB_FORKS=1000 AB_LOOPS=2000 AB_SUBINTERPRETERS=100 AB_BURST=1000000 \
	AB_ROUNDS=1000000 AB_BLOCKED=200000 AB_PRODUCED=1000000 AB_EACH=1000000 AB_ITEMS=10000000 \
	AB_OVERLOADS=200 AB_MODEL_EXAMPLES=2000
WHOLE_TESTS := $(addprefix tests/runtime/test_,churn.py exit.py exit_mid_batch.py fork.py \
	fork_inside.py fork_locks.py free_threading.py imports.py memory.py threads.py) \
	$(addprefix tests/unit/test_,load.py many_waiters.py overload.py) tests/model

endurance: $(STAMPS)/package $(STAMPS)/test ## Run the tests that count rounds, in full: an hour; TESTS=.. chooses
	$(WHOLE) $(PY) -m pytest -q --timeout=3600 $(or $(TESTS),$(WHOLE_TESTS)) $(ARGS)

# --- the same under instruments ----------------------------------------------

# Each has a package of its own in build/<name>/lib, built with its flags, and
# the tests find that one by PYTHONPATH: .venv keeps what it has.
# AB_TEST_SLOWNESS: how many times longer a test may take.
build_apart = $(1) setup.py -q build --build-base build/$(2) --build-lib build/$(2)/lib 2>build/$(2)/log \
	|| { cat build/$(2)/log; exit 1; }
run_apart = PYTHONPATH=$(CURDIR)/build/$(1)/lib $(2)/bin/pytest -q -p no:cacheprovider
need = command -v $(1) >/dev/null || { echo "$(1) is missing: apt-get install $(2)"; exit 1; }

# libstdc++, or the sanitizer would not know how the C++ of numpy throws. Leaks
# are not looked for: CPython ends with most of its objects alive; for ours
# there are the C tests, refleak and the weak references of test_lifetime.py.
# PYTHONMALLOC: the sanitizer sees no block inside an arena of CPython's own.
ASAN_PRELOAD = $(shell $(CC) -print-file-name=libasan.so) $(shell $(CC) -print-file-name=libstdc++.so.6)
ASAN_ENV = LD_PRELOAD="$(ASAN_PRELOAD)" ASAN_OPTIONS=detect_leaks=0 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc AB_TEST_SLOWNESS=4

asan: $(STAMPS)/package $(STAMPS)/test ## Run the C and Python tests under ASan and UBSan; TESTS=.. chooses
	@test -e "$(firstword $(ASAN_PRELOAD))" \
		|| { echo "libasan.so of $(CC) is missing: apt-get install gcc"; exit 1; }
	@$(MAKE) --no-print-directory ctest SAN=address,undefined ARGS=
	@mkdir -p build/asan
	@AB_SANITIZE=address,undefined $(call build_apart,$(PY),asan)
	$(ASAN_ENV) $(call run_apart,asan,$(VENV)) --timeout=240 $(or $(TESTS),tests) $(ARGS)

# Interpreters built specially: beside the checkout, where that is there, or by name.
BUILDER := $(wildcard ../shared/tools/build-python)
PYTHON_DEBUG = $(if $(BUILDER),$(shell $(BUILDER) debug),python3.14d)
PYTHON_TSAN = $(if $(BUILDER),$(shell $(BUILDER) free-threaded tsan),python3.14t)
build/refleak/venv/ready: INTERPRETER = $(PYTHON_DEBUG)
build/tsan/venv/ready: INTERPRETER = $(PYTHON_TSAN)

# They may have no pip: that of .venv installs for them. uvloop would be built
# from its sources for each.
REQUIREMENTS = import tomllib; print(*(line for line in \
	tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["test"] \
	if "uvloop" not in line), sep="\n")
build/%/venv/ready: pyproject.toml | $(STAMPS)/venv
	@command -v $(INTERPRETER) >/dev/null || { echo "no interpreter for $*: set PYTHON_DEBUG or PYTHON_TSAN"; exit 1; }
	TSAN_OPTIONS=report_bugs=0 $(INTERPRETER) -m venv --without-pip build/$*/venv
	@TSAN_OPTIONS=report_bugs=0 $(INTERPRETER) -c '$(REQUIREMENTS)' > build/$*/requirements.txt
	TSAN_OPTIONS=report_bugs=0 $(PY) -m pip --python build/$*/venv/bin/python install -q --no-compile \
		--disable-pip-version-check "setuptools>=77" -r build/$*/requirements.txt
	@touch $@

TSAN_TESTS := tests/runtime/test_threads.py tests/unit/test_threadsafe.py \
	tests/unit/test_threadsafe_waiting.py tests/unit/test_loops_threads.py tests/unit/test_loops.py \
	tests/unit/test_executors.py tests/unit/test_stop_edges.py

tsan: build/tsan/venv/ready ## Run the C tests, and those with threads on free-threaded CPython, under TSan
	@$(call need,clang,clang libclang-rt-14-dev)
	@$(MAKE) --no-print-directory ctest SAN=thread ARGS=
	@AB_SANITIZE=thread CC=clang LDSHARED="clang -shared" TSAN_OPTIONS=report_bugs=0 \
		$(call build_apart,build/tsan/venv/bin/python,tsan)
	TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp history_size=4" AB_TEST_SLOWNESS=10 \
		$(call run_apart,tsan,build/tsan/venv) -o faulthandler_timeout=0 --timeout=600 \
		$(or $(TESTS),$(TSAN_TESTS)) $(ARGS)

refleak: build/refleak/venv/ready ## Count references on a debug build of CPython: no round may leave one
	@$(call build_apart,build/refleak/venv/bin/python,refleak)
	AB_TEST_SLOWNESS=2 $(call run_apart,refleak,build/refleak/venv) --timeout=240 tests/runtime/test_refleak.py \
		tests/runtime/test_reentry.py $(ARGS)

valgrind: ## Run the C tests under valgrind's memcheck; ARGS="queue batch." chooses
	@$(call need,valgrind,valgrind)
	@$(MAKE) --no-print-directory -j$(JOBS) $(CTEST)
	AB_TEST_SLOWNESS=20 valgrind -q --suppressions=tests/valgrind.supp --error-exitcode=9 --leak-check=full \
		--errors-for-leak-kinds=definite,indirect,possible $(CTEST) $(ARGS)

FUZZ_SECONDS ?= 60
FUZZ := build/fuzz/fuzz_queue

$(FUZZ): tests/c/fuzz_queue.c $(C_SOURCES) $(C_HEADERS) Makefile
	@$(call need,clang,clang libclang-rt-14-dev)
	@mkdir -p build/fuzz/corpus
	clang $(filter-out -Wconversion -Wpedantic -O0,$(CTEST_CFLAGS)) -O1 \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-o $@ $< $(addprefix src/core/,base.c queue.c prefetch.c policy.c)

fuzz: $(FUZZ) ## Fuzz the queue, the prefetch and the policy for FUZZ_SECONDS=60
	$(FUZZ) -max_total_time=$(FUZZ_SECONDS) -max_len=512 -artifact_prefix=build/fuzz/ -verbosity=0 \
		-print_final_stats=1 build/fuzz/corpus

PYTHON_INCLUDE = $(shell $(PY) -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
# With assertions, for the analyzers take them as known.
ANALYZE_FLAGS = -std=c11 -DAB_DEBUG -Isrc -isystem $(PYTHON_INCLUDE) -pthread

analyze: $(STAMPS)/venv ## Check the C files by clang-tidy and gcc -fanalyzer
	@$(call need,clang-tidy,clang-tidy)
	@$(call need,gcc,gcc)
	printf '%s\n' $(C_SOURCES) | xargs -P $(JOBS) -n 4 sh -c \
		'clang-tidy --quiet "$$@" -- $(ANALYZE_FLAGS) 2>/dev/null' tidy
	printf '%s\n' $(C_SOURCES) | xargs -P $(JOBS) -n 1 \
		gcc $(ANALYZE_FLAGS) -O1 -fanalyzer -Werror -c -o /dev/null

# Only a whole run replaces the results that are kept.
MINUTES ?= 30
soak: $(STAMPS)/package $(STAMPS)/soak ## Put a mixed load on for MINUTES=30 and account for every item
	$(PY) -m benchmarks.soak --minutes $(MINUTES) \
		$(if $(filter 30,$(MINUTES)),,--results build/soak) $(ARGS)

# --- the rest ---------------------------------------------------------------

demo: $(STAMPS)/package $(STAMPS)/demo ## Serve a model plain and batched, and compare
	$(PY) -m benchmarks.demo $(ARGS)

# Peers whose import name is ours, or that bring much: each in a folder of its
# own. Without Flyte (its wheel has no build for every Python) it is left out.
BENCH_PEERS := build/bench/async-batcher build/bench/flyte
build/bench/async-batcher: | $(STAMPS)/package
	$(PIP) --target $@ --no-deps async-batcher==0.2.2
build/bench/flyte: | $(STAMPS)/package
	-$(PIP) --target $@ flyte

bench: $(STAMPS)/package $(STAMPS)/bench $(BENCH_PEERS) ## Answer every question of benchmarks/, with the peers
	$(PY) -m benchmarks $(ARGS)

bench-quick: $(STAMPS)/package $(STAMPS)/bench $(BENCH_PEERS) ## The same in two minutes, for a first look
	$(PY) -m benchmarks --quick --results build/bench/results $(ARGS)

C_STYLED := $(wildcard src/*/*.[ch] tests/c/*.[ch])

lint: $(STAMPS)/package $(STAMPS)/lint ## Check format, style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run -Werror $(C_STYLED)
	$(VENV)/bin/mypy
	$(PY) -m mypy.stubtest async_batcher._core
	$(VENV)/bin/basedpyright

format: $(STAMPS)/package $(STAMPS)/lint ## Format the C and Python files
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(C_STYLED)

clean: ## Remove all that was built
	rm -rf $(VENV) build dist *.egg-info async_batcher/*.so .mypy_cache .ruff_cache \
		.pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
