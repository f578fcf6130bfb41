# Two commands do everything on a fresh machine: make book, make test. `make help` lists the others.
# Files under .venv/.done and _build record what is done, so that no work is done twice.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.done
SITE := _build/html
PORT ?= 8000
CHAPTERS ?=

# Printed numbers depend on the number of threads: fixed here for every command, and in the chapters for every reader.
export OMP_NUM_THREADS := 2
export MKL_NUM_THREADS := 2
export OPENBLAS_NUM_THREADS := 2
# A thread that waits spins for a short time, then sleeps. Spinning for long makes small operations many times slower
# whenever another process wants a core; sleeping at once makes them half as fast again on a quiet machine.
export GOMP_SPINCOUNT := 10000
# Memory that was freed is kept for the next iteration. Handing megabytes back to the system and fetching them again made
# an attack on a ResNet-18 a third slower (GNU libc; others ignore it).
export MALLOC_TRIM_THRESHOLD_ := 2000000000
export MALLOC_MMAP_THRESHOLD_ := 2000000000
# Two processes of one thread each test faster than one process of two.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Matplotlib keeps its list of fonts here: built once, at the end of the installation, whatever the home folder allows.
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/matplotlib

SOURCES := $(shell find book chapters gilib -type f -not -path '*/vendor/*' -not -path '*/__pycache__/*' -not -path '*/.ipynb_checkpoints/*' 2>/dev/null)

.PHONY: help setup book test lint unit interop-tests notebooks site-tests execute lab serve notebooks-branch pdf epub offline lock matrix studies catalogue bench bench-networks bench-tests clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(DONE)/install $(DONE)/vendor ## Create .venv and install the locked environment into it

book: _build/.book ## Build the site from the stored notebooks into _build/html
	@echo
	@echo "The book is in $(SITE). Open it with 'make serve', or open $(SITE)/index.html in a browser."

test: lint unit interop-tests bench-tests notebooks site-tests ## Lint, types, unit tests, Flower, benchmark, notebooks re-executed and compared, site in a browser
	@echo
	@echo "Everything passed."

lint: $(DONE)/install ## Only ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(DONE)/install ## Only the unit tests and the rules of the chapters
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal tests --ignore=tests/site

notebooks: $(DONE)/install ## Only the re-execution of every chapter, outputs compared as strings
	$(ONE_THREAD) $(BIN)/python -m pytest -p no:cacheprovider -n 2 --dist loadscope --nbval --nbval-current-env chapters

site-tests: _build/.book ## Only the tests of the built site
	$(BIN)/python -m pytest -n 2 tests/site

execute: $(DONE)/install ## Run chapters in place and store their outputs: make execute CHAPTERS="first_leak"
	$(BIN)/python tools/execute.py $(CHAPTERS)

lab: $(DONE)/install ## Open the chapters in JupyterLab
	$(BIN)/jupyter lab --ip=127.0.0.1 chapters

serve: book ## Build, then serve the site on this machine only: make serve PORT=8000
	$(BIN)/python tools/serve.py $(SITE) $(PORT)

notebooks-branch: book ## Push the site's notebooks, which run alone, to the branch that Colab opens: REMOTE=https://...
	@$(BIN)/python tools/notebooks_branch.py "$(REMOTE)"

pdf: _build/.book ## Print the whole book, with links and bookmarks, into dist/ (some minutes; needs Chromium or Chrome)
	$(BIN)/python -m tools.prints.pdf dist/gradient-inversion.pdf

epub: _build/.book ## Make an EPUB of the whole book in dist/
	$(BIN)/python -m tools.prints.epub dist/gradient-inversion.epub

offline: _build/.book ## Pack the site into a zip in dist/ that works from a folder
	$(BIN)/python -m tools.prints.offline dist/gradient-inversion-offline.zip

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
lock: $(DONE)/tools ## Pin again: the files *.lock and package-lock.json (add UPGRADE=--upgrade to move to newer releases)
	$(LOCK) $(UPGRADE) --extra book --extra test --extra cluster -o requirements.lock pyproject.toml
	$(LOCK) $(UPGRADE) --extra bench -c requirements.lock -o requirements-bench.lock pyproject.toml
	echo uv | $(LOCK) $(UPGRADE) --no-annotate -o requirements-uv.lock -
	echo flwr | $(LOCK) $(UPGRADE) --no-annotate -o requirements-flower.lock -
	$(MAKE) --no-print-directory $(DONE)/install
	$(BIN)/npm install --package-lock-only --no-progress

matrix: $(DONE)/install ## Every attack against every defense: computes what bench/matrix.jsonl lacks (ARGS="--help")
	$(ONE_THREAD) $(BIN)/python -m gilib.matrix $(ARGS)

studies: $(DONE)/install ## The chapters' studies at 32 x 32: computes what bench/studies/results lacks (ARGS="limits --jobs 1")
	$(ONE_THREAD) $(BIN)/python -m bench.studies $(ARGS)

catalogue: $(DONE)/install ## Check the catalogue of papers, and count what the book runs of each family
	@PYTHONPATH=book/_ext $(BIN)/python -m gilib_catalogue

bench: .venv-bench/.done ## Measure speed and quality beside a peer library (its own environment, .venv-bench)
	.venv-bench/bin/python -m bench $(ARGS)

bench-networks: .venv-bench/.done ## Measure the table of networks beside a plain loop and the peer (ARGS="--help")
	$(ONE_THREAD) .venv-bench/bin/python -m bench.networks $(ARGS)

bench-tests: .venv-bench/.done ## Only a quick run of every benchmark, with the peer library breaching in .venv-bench
	$(ONE_THREAD) GILIB_REQUIRE_PEER=1 .venv-bench/bin/python -m pytest -n 2 --dist loadfile tests/bench

interop-tests: .venv-flower/.done ## Only the tests with a real engine, Flower, in .venv-flower
	.venv-flower/bin/python -m pytest tests/interop

clean: ## Remove everything that was built or installed
	rm -rf _build $(VENV) .venv-bench .venv-flower node_modules .npm-cache book/_static/vendor
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- the environment -------------------------------------------------------------------------------------------------

# The first of these that is Python 3.11 to 3.13 and can create environments; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	"$$python" tools/check_python.py >/dev/null 2>&1 && echo "$$python" && break; done)

$(DONE)/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "This book needs Python 3.11, 3.12 or 3.13 with its venv module; none was found (python3 is: $$(python3 --version 2>&1 || echo missing))." >&2; \
	  echo "Install one (on Debian and Ubuntu: apt-get install python3.11-venv), or name it: make book PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@"$(PYTHON)" tools/check_python.py
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@mkdir -p $(DONE) && touch $@

$(DONE)/tools: requirements-uv.lock | $(DONE)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-uv.lock
	@touch $@

$(DONE)/sync: requirements.lock $(DONE)/tools
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --compile-bytecode --require-hashes requirements.lock
	@touch $@

$(DONE)/install: pyproject.toml $(DONE)/sync
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -c "import matplotlib.font_manager"
	@touch $@

# MathJax, the widget scripts and the accessibility checker; node and npm come with the environment.
$(DONE)/npm: package.json package-lock.json .npmrc $(DONE)/sync
	$(BIN)/npm ci --no-progress
	@touch $@

$(DONE)/vendor: tools/vendor.py $(DONE)/npm
	$(BIN)/python tools/vendor.py
	@touch $@

.venv-bench/.done: requirements.lock requirements-bench.lock pyproject.toml $(DONE)/tools
	[ -x .venv-bench/bin/python ] || $(BIN)/python -m venv .venv-bench
	VIRTUAL_ENV=$(CURDIR)/.venv-bench $(BIN)/uv pip sync --require-hashes requirements.lock requirements-bench.lock
	VIRTUAL_ENV=$(CURDIR)/.venv-bench $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Flower pins what other packages need newer: it has its own packages first, and everything else from the book's.
.venv-flower/.done: requirements-flower.lock $(DONE)/install
	[ -x .venv-flower/bin/python ] || $(BIN)/python -m venv .venv-flower
	VIRTUAL_ENV=$(CURDIR)/.venv-flower $(BIN)/uv pip sync --require-hashes requirements-flower.lock
	for folder in .venv-flower/lib/python3*/site-packages; do \
	  $(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > $$folder/book.pth; echo $(CURDIR) >> $$folder/book.pth; done
	@touch $@

# --- the site --------------------------------------------------------------------------------------------------------

# After a failure the cached pages go: a second build would otherwise skip them, and their warnings with them.
_build/.book: _config.yml _toc.yml site.toml CITATION.cff $(SOURCES) $(DONE)/install $(DONE)/vendor
	@mkdir -p _build
	$(BIN)/jupyter-book build . -W -n --keep-going || { rm -rf _build/.doctrees; exit 1; }
	@touch $@
