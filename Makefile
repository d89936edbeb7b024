# The commands of the project. `make` lists them. Needed: make, Python >= 3.11 with its venv module.
# With a C++ compiler and Python's headers `make setup` compiles the engine of indexers/native; without, others serve.
#
#   make PYTHON=python3.12 setup      another Python than python3
#   make TORCH_INDEX=URL setup        a further package index. PyPI's torch for Linux on x86-64 brings gigabytes of
#                                     CUDA; https://download.pytorch.org/whl/cpu has the build without.
#   make PYTEST_ARGS='-k filters' test
#   make CASE='recall hubs-256 --n 20000' bench

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?=
DATA ?= $(if $(wildcard .demo),.demo,vss-data)
SERVE_ARGS ?=
CASE ?=

BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PINS := constraints-cpu.txt
KERNEL := indexers/native/kernel
BUILT_FROM := pyproject.toml setup.py $(PINS) $(wildcard $(KERNEL)/*.cpp $(KERNEL)/*.hpp)
UV := 0.13.9
TORCH_PIN := $(shell sed -n 's/^torch==//p' $(PINS) 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two targets at once would install into one environment at once.
.NOTPARALLEL:
.PHONY: help setup demo test lint sanitize serve bench soak constraints locks clean

help: ## List these commands
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: $(VENV)/.dev ## Make .venv with everything for development

demo: $(VENV)/.models ## The main job on real text: embed, index, serve, search, recommend
	$(BIN)/vss demo

test: $(VENV)/.dev ## Run the tests (PYTEST_ARGS='-k name' for some)
	$(BIN)/pytest -m "not soak" $(PYTEST_ARGS)

lint: $(VENV)/.dev ## Check style, types and architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py
	@if command -v cppcheck >/dev/null; then \
	  echo cppcheck $(KERNEL); \
	  cppcheck --quiet --std=c++17 --language=c++ --enable=warning,performance,portability --inline-suppr \
	    --suppress=missingIncludeSystem --suppress=passedByValue --error-exitcode=1 $(KERNEL)/*.cpp; \
	else echo "no cppcheck: the C++ of $(KERNEL) is not looked at"; fi

# pip compiles the kernel anew beside a copy of the tests. Python itself leaks on purpose; libstdc++ is named because what
# it throws is watched only where it was loaded with the sanitizers.
SANITIZE := -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
sanitize: $(VENV)/.dev ## Test the native kernel under the sanitizers of addresses and undefined behaviour (needs g++)
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; mkdir "$$fresh/source" "$$fresh/tests" "$$fresh/tests/indexers"; \
	cp -R pyproject.toml setup.py README.md LICENSE vss embedders indexers api "$$fresh/source"; \
	rm -f "$$fresh"/source/indexers/native/_kernel*.so; \
	VSS_WERROR=1 CFLAGS='$(SANITIZE)' CXXFLAGS='$(SANITIZE)' LDFLAGS='$(SANITIZE)' \
	  $(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --target "$$fresh/site" "$$fresh/source"; \
	cp tests/__init__.py "$$fresh/tests"; cp tests/indexers/__init__.py "$$fresh/tests/indexers"; \
	cp -R tests/indexers/native "$$fresh/tests/indexers"; \
	pytest="$$PWD/$(BIN)/pytest"; settings="$$PWD/pyproject.toml"; cd "$$fresh"; \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$$fresh/site" \
	  "$$pytest" -c "$$settings" --rootdir "$$fresh" -p no:cacheprovider -q -m "not soak" $(PYTEST_ARGS) tests/indexers/native

serve: $(VENV)/.models ## Serve the demo's data, or vss-data (DATA=, SERVE_ARGS='--port 8000')
	$(BIN)/vss serve --data $(DATA) $(SERVE_ARGS)

bench: $(VENV)/.dev ## Measure indexes, embedding and writes, JSON lines (CASE='recall hubs-256' for one)
	$(if $(CASE),$(BIN)/vss bench $(CASE),$(BIN)/vss bench recall clustered-128 && $(BIN)/vss bench embed && $(BIN)/vss bench write)

soak: $(VENV)/.dev ## Run the long proofs that `make test` leaves out
	@status=0; $(BIN)/pytest -m soak $(PYTEST_ARGS) || status=$$?; \
	if [ $$status -eq 5 ]; then echo "make soak: no test is marked 'soak' yet"; else exit $$status; fi

constraints: ## Pin the whole environment anew into constraints-cpu.txt (needs Python 3.11)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "make constraints: pins are made with Python 3.11; try PYTHON=python3.11" >&2; exit 1; }
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PYTHON) -m venv "$$fresh"; \
	"$$fresh/bin/pip" install $(PIP_FLAGS) -e '.[models,dev]' 'torch==$(or $(TORCH),$(TORCH_PIN))'; \
	"$$fresh/bin/pip" freeze --exclude-editable > "$$fresh/pins"; \
	if grep -i '^nvidia' "$$fresh/pins"; then \
	  echo "make constraints: that torch is not the CPU build; give TORCH_INDEX (see the head of the Makefile)" >&2; exit 1; \
	fi; \
	{ sed '/^[^#]/,$$d' $(PINS); sed 's/^\(torch==[^+]*\)+cpu$$/\1/' "$$fresh/pins"; } > "$$fresh/new"; \
	cp "$$fresh/new" $(PINS)

# Each file's head stays (comments and options); what is below it is made anew. torch is locked as the build for CPUs, from TORCH_INDEX or from
# a folder of wheels that UV_FIND_LINKS names.
locks: ## Pin the packages of the Docker image by hash into deploy/ (after `make constraints`)
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PYTHON) -m venv "$$fresh"; \
	"$$fresh/bin/pip" install $(PIP_FLAGS) 'uv==$(UV)'; \
	sed 's/^torch==.*/&+cpu/' $(PINS) > "$$fresh/pins"; \
	sed -n 's/^requires = //p' pyproject.toml | tr -d '[]"' | tr ',' '\n' > "$$fresh/build.in"; \
	lock() { \
	  out="$$1"; shift; \
	  "$$fresh/bin/uv" pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    $(if $(TORCH_INDEX),--index $(TORCH_INDEX) --index-strategy unsafe-best-match) \
	    --constraint "$$fresh/pins" --output-file "$$fresh/lock" "$$@"; \
	  { sed '/^[^#-]/,$$d' "$$out"; cat "$$fresh/lock"; } > "$$fresh/new"; cp "$$fresh/new" "$$out"; rm "$$fresh/lock"; \
	}; \
	lock deploy/requirements.lock pyproject.toml; \
	lock deploy/requirements-models.lock --extra models pyproject.toml; \
	lock deploy/requirements-build.lock "$$fresh/build.in"

clean: ## Remove the environment, caches and builds; data stays
	rm -rf $(VENV) build dist indexers/native/_kernel*.so *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. A stamp is as new as what it was installed from; .dev holds all of .models, so it makes both.

KERNEL_SAID := $(BIN)/python -c 'import indexers.native._kernel' 2>/dev/null \
  || echo "no native kernel (no C++17 compiler, or no headers of Python's): FAISS serves in its place"

# An environment that was cut off half way, or whose Python was upgraded away, is made anew.
ifneq ($(shell $(BIN)/python -c 'import pip; print("whole")' 2>/dev/null),whole)
.PHONY: $(BIN)/pip $(VENV)/.models $(VENV)/.dev
endif

$(VENV)/.dev: $(BUILT_FROM) | $(BIN)/pip
	@echo "installing everything for development into $(VENV) (2 GB, some minutes) ..."
	@$(BIN)/python -m pip install $(PIP_FLAGS) --constraint $(PINS) --editable '.[models,dev]'
	@if command -v $(firstword $(CXX)) >/dev/null; then \
	  $(BIN)/python -m pip install $(PIP_FLAGS) --constraint $(PINS) hnswlib==0.8.0 \
	  || echo "make: hnswlib was not compiled; its tests are skipped (python3-dev has the headers it needs)" >&2; \
	else echo "no C++ compiler: without hnswlib, whose tests are skipped"; fi
	@$(KERNEL_SAID)
	@touch $(VENV)/.models $@

$(VENV)/.models: $(BUILT_FROM) | $(BIN)/pip
	@echo "installing the service and its model into $(VENV) (some minutes) ..."
	@$(BIN)/python -m pip install $(PIP_FLAGS) --constraint $(PINS) --editable '.[models]'
	@$(KERNEL_SAID)
	@touch $@

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON); install Python 3.11 or later, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), 3.11 or later is needed; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "make: $(PYTHON) has no venv module; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
