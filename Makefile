# Every target sets up all it needs; a stamp file makes repeats instant.
#
#   make demo                           train two configs on embedded data, compare them
#   make test                           all tests but the slow ones
#   make test-all                       the slow ones too
#   make test-upstream                  on the last upstream releases of the host
#   make train CONFIG=FILE DATA=DIR     train a config on the data in DIR
#   make bench                          speed of the parts
#   make lint                           ruff, as CI runs it
#   make docs                           the user guide as a site, in site/
#   make … WHEELHOUSE=DIR               look into a folder of prebuilt wheels first
#   make … PYTEST_ARGS=… TRAIN_ARGS=… DEMO_ARGS=… BENCH_ARGS=…   further options

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV ?= .venv
WHEELHOUSE ?=
TORCH ?= torch==2.13.0
HOST ?= host
JOBS ?= 2
PYTEST_ARGS ?=
TRAIN_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OPERATORS := $(if $(filter host-upstream,$(HOST)),mmcv,onedl_mmcv)
INPUTS := $(wildcard requirements/*.txt requirements/opencv-python/setup.py) setup.py

# Quiet but for errors: the progress lines below say what goes on.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
INSTALL := $(PIP) install $(if $(WHEELHOUSE),--find-links '$(abspath $(WHEELHOUSE))')
# One thread a process: the test processes would otherwise fight for the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --timeout 600

.PHONY: help install test test-all test-upstream train demo bench lint clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)

$(STAMP): $(INPUTS)
	@set -e; \
	if [ -n '$(WHEELHOUSE)' ] && [ ! -d '$(WHEELHOUSE)' ]; then \
	  echo 'error: WHEELHOUSE=$(WHEELHOUSE) is not a folder' >&2; exit 2; fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  command -v $(PYTHON) >/dev/null || { \
	    echo 'error: $(PYTHON) not found; name another one: make PYTHON=…' >&2; exit 2; }; \
	  echo '[1/5] virtual environment $(VENV)'; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo 'error: $(PYTHON) cannot make one (Debian: apt-get install python3-venv)' >&2; \
	    exit 2; }; \
	fi
	@echo '[2/5] $(TORCH) and build tools'
	@$(INSTALL) '$(TORCH)' -r requirements/build.txt
	@if ls '$(WHEELHOUSE)'/$(OPERATORS)-*.whl >/dev/null 2>&1; then \
	  echo '[3/5] host (requirements/$(HOST).txt), its operators prebuilt'; \
	else \
	  echo '[3/5] host (requirements/$(HOST).txt): unless pip has them in its cache, its'; \
	  echo '      operators are compiled: 10 to 20 minutes on two cores, no word'; \
	fi
	@$(INSTALL) --no-build-isolation ./requirements/opencv-python
	@CFLAGS="-g0 $$CFLAGS" $(INSTALL) --no-build-isolation -r requirements/$(HOST).txt || { \
	  echo 'error: the host was not installed, see above; compiling its operators takes' \
	    'a C++ compiler and 2 GB of memory a job (MAX_JOBS=1 for fewer jobs)' >&2; exit 2; }
	@echo '[4/5] this package (editable), test and lint tools'
	@$(INSTALL) --no-build-isolation -e '.[tests,lint]'
	@echo '[5/5] check'
	@$(INSTALL) --no-deps -r requirements/tests-no-deps.txt
	@! $(BIN)/python -m pip check | grep -vE '^(tf[-_]models|No broken)'
	@$(BIN)/python -c 'import mmdet_imbalance.registry'
	@touch $@

test: $(STAMP)
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: $(STAMP)
	$(PYTEST) $(PYTEST_ARGS)

# The last upstream releases of the host: a second environment, a second compilation.
test-upstream:
	$(MAKE) test VENV=.venv-upstream HOST=host-upstream

train: $(STAMP)
	@[ -n '$(CONFIG)' ] || { \
	  echo 'error: name a config: make train CONFIG=configs/….py DATA=DIR' >&2; exit 2; }
	$(BIN)/python tools/train.py $(CONFIG) $(if $(DATA),--data-root '$(DATA)') $(TRAIN_ARGS)

demo: $(STAMP)
	$(BIN)/python tools/demo.py $(DEMO_ARGS)

bench: $(STAMP)
	@set -e; for file in $$(find benchmarks -name 'bench_*.py' | sort); do \
	  echo "== $$file"; $(BIN)/python $$file $(BENCH_ARGS); done

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Offline after set-up; a warning is an error.
.PHONY: docs
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -b html -d build/doctrees . site
	@echo 'site/index.html'

$(VENV)/.installed-docs: requirements/docs.txt $(STAMP)
	@$(INSTALL) -r requirements/docs.txt
	@touch $@

clean:
	rm -rf .venv .venv-upstream build dist site *.egg-info mmdet_imbalance/.mim
