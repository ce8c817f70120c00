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
.PHONY: help build demo test ctest pytest lint format clean FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

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
$(STAMPS)/test $(STAMPS)/lint $(STAMPS)/demo: $(STAMPS)/%: pyproject.toml | $(STAMPS)/package
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
CTEST_CFLAGS := -std=c11 -Wall -Wextra -Wshadow -Wpedantic -Wconversion -Werror \
	-g $(if $(SAN),-O1 -fsanitize=$(SAN) -fno-omit-frame-pointer,-O0) \
	$(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined) \
	-pthread -Isrc -Itests/c $(CTEST_DEFINES)
CTEST_OBJECTS := $(patsubst %.c,$(CTEST_DIR)/%.o,$(wildcard src/core/*.c tests/c/*.c))

ctest: ## Run the C tests; SAN=address,undefined or SAN=thread builds them so
	@$(MAKE) --no-print-directory -j$(JOBS) $(CTEST)
	$(CTEST) $(ARGS)

$(CTEST): $(CTEST_OBJECTS)
	$(CC) $(CTEST_CFLAGS) -o $@ $^

$(CTEST_DIR)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CTEST_CFLAGS) -MMD -MP -c -o $@ $<

-include $(CTEST_OBJECTS:.o=.d)

# --- the rest ---------------------------------------------------------------

demo: $(STAMPS)/package $(STAMPS)/demo ## Serve a model plain and batched, and compare
	$(PY) -m benchmarks.demo $(ARGS)

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
