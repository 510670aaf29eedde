# On a fresh machine: python3 (3.11 or newer, with venv), make and git are enough.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Trained weights are kept beside the book; set ADDLIB_CACHE to share them between checkouts.
export ADDLIB_CACHE ?= $(CURDIR)/weights
# The kernel of this environment, not one of the same name in the user's home.
export JUPYTER_PREFER_ENV_PATH := 1
# Threads that wait give the core away: several times faster on a busy machine, the same on a quiet one.
export OMP_WAIT_POLICY ?= PASSIVE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help book pdf test test-full sweep bench record serve notebooks stamp clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

book: .venv/.installed ## train what is missing, execute every notebook, build _build/html/index.html
	@$(BIN)/python -m workflow.run_graph

pdf: .venv/.installed ## make the book, then print the whole site to _build/book.pdf
	@$(BIN)/python -m workflow.browser
	@$(BIN)/python -m workflow.run_graph
	@$(BIN)/python -m workflow.pdf

test: .venv/.installed ## lint, types, tests, the site in a browser; what has not changed since it passed is skipped
	@$(BIN)/python -m workflow.browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15 \
	  --junitxml _build/tests.xml

test-full: export ADDLIB_TEST := full
test-full: book test ## the same with nothing skipped, all findings, something wrong in every chapter, and the pages of the whole book
	ADDLIB_SITE=_build/html $(BIN)/python -m pytest -n 2 tests/site/test_pages.py -k "not smoke"

sweep: .venv/.installed ## run chapters over a grid of parameters (GRID=..., PROFILE=local, slurm or a folder), resumable
	@$(BIN)/python -m workflow.sweep.grid $(or $(GRID),workflow/sweep/grids/seeds.yml) \
	  $(if $(PROFILE),--profile $(PROFILE)) $(if $(RECORD),--record)

bench: .venv/.installed ## speed of training, answering, patching and pages beside plain ways; writes benchmarks/results.json
	@$(BIN)/python benchmarks/train_step.py
	@$(BIN)/python benchmarks/pair_step.py
	@$(BIN)/python benchmarks/threads.py
	@$(BIN)/python benchmarks/answers.py
	@$(BIN)/python benchmarks/precision.py
	@test ! -f _build/html/_static/live/model.js || $(BIN)/python benchmarks/pages.py
	@$(BIN)/python benchmarks/patching.py --llm --layers 4 12 20 --pairs 4

record: .venv/.installed ## run the book and its benchmarks from nothing, and keep what this machine took in the package
	@$(BIN)/python -m workflow.record

serve: ## the built site at http://localhost:8000 (PORT=...)
	@test -f _build/html/index.html || { echo "There is no site yet: run 'make book' first."; exit 1; }
	@$(PYTHON) -m http.server --bind localhost --directory _build/html $(or $(PORT),8000)

notebooks: .venv/.installed ## execute at full parameters and store the compared outputs in notebooks/ (NAMES="...": of these chapters)
	@$(BIN)/python -m workflow.store_outputs $(NAMES)

stamp: .venv/.installed ## write address (REPOSITORY=..., empty for none) and run times into notebooks, README's table
	@$(BIN)/python -m workflow.chapter_list
	@$(BIN)/python -m workflow.stamp_address $(if $(filter undefined,$(origin REPOSITORY)),,--repository "$(REPOSITORY)")

clean: ## remove the site and all results; trained weights and the environment stay
	rm -rf _build results .snakemake

# torch comes first and alone, so that nothing else can choose another one. TORCH_INDEX names where it comes from if not
# from PyPI, whose torch for Linux brings CUDA's libraries.
.venv/.installed: requirements.txt pyproject.toml workflow/npm_files.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv || { \
	  echo "No virtual environment could be made (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }
	@echo "Installing the pinned packages into .venv: about 2 GB (several more with CUDA's libraries), some minutes, once."
	@$(INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' requirements.txt)"
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps -e .
	@$(BIN)/python -m workflow.npm_files || true
	@touch $@
