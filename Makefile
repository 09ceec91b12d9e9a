# The commands of the book. Each makes its environment in .venv the first time, which takes a few minutes.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test mutants lab docs clean

PYTHON ?= python3
THREADS ?= 1
# The instruction sets that a processor may have, as torch and oneDNN call them. ISA= takes what there is.
ISA ?=
ONEDNN_default := SSE41
ONEDNN_avx2 := AVX2
ONEDNN_avx512 := AVX512_CORE
BIN := $(CURDIR)/.venv/bin
MATHJAX := docs/_static/mathjax/tex-svg.js
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## this list
	@sed -nE 's/^([a-z]+):.*## /  make \1\t/p' Makefile | expand -t 16

demo: .venv/genae ## train on drawn faces and mix held-out ones; with your own pictures: make demo IMAGES=folder
	@genae_demo $(if $(IMAGES),--images "$(IMAGES)")

test: .venv/dev ## run every lesson offline, then pytest; as another processor would: make test ISA=default THREADS=2
	@rm -f .nbdev_test.log .ledger.jsonl .offline.jsonl
	@echo "Running the lessons, without network ..."
	@export OMP_NUM_THREADS=$(THREADS) $(ISA:%=ATEN_CPU_CAPABILITY=% DNNL_MAX_CPU_ISA=$(ONEDNN_$(ISA))) MPLBACKEND=agg GENAE_DEVICE=cpu GENAE_LEDGER="$(CURDIR)/.ledger.jsonl" GENAE_OFFLINE="$(CURDIR)/.offline.jsonl"; \
	PYTHONPATH="$(CURDIR)/tests/strict" PYTHONUNBUFFERED=1 nbdev_test --n_workers 2 --timing --do_print 2>&1 | tee .nbdev_test.log \
	  || echo "Some lessons failed; pytest will name them."; \
	GENAE_LOG=.nbdev_test.log pytest

mutants: .venv/dev ## hours: do lessons and tests notice small wrong edits of the code? ARGS="--module kl --limit 25" takes minutes
	@python tests/mutants.py $(ARGS)

lab: .venv/dev ## open the book in JupyterLab
	@jupyter lab --ServerApp.root_dir="$(CURDIR)" nbs/index.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

docs: .venv/dev $(MATHJAX) ## the website, in docs/_build/html
	@python docs/prep.py
	@sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "The website is docs/_build/html/index.html"

clean: ## delete the environment, the website and everything else that can be made again
	@rm -rf .venv docs/nb docs/_build docs/_static/mathjax _proc _docs .pytest_cache .hypothesis *.egg-info build dist
	@rm -f .nbdev_test.log .ledger.jsonl .offline.jsonl
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. Its two stamps are older than the settings when something must be installed anew.
.venv/genae: settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "genae needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@[ -x "$(BIN)/pip" ] || { echo "Making .venv ..."; $(PYTHON) -m venv --clear .venv || { echo "On Debian and Ubuntu: apt-get install python3-venv"; rm -rf .venv; exit 1; }; }
	@echo "Installing genae and PyTorch into .venv: a few minutes, once ..."
	@python -m pip install -qq -e . || { echo "The installation failed. It needs a package registry (PyPI) within reach."; exit 1; }
	@touch $@

.venv/dev: .venv/genae
	@echo "Installing what tests and documentation need: another minute, once ..."
	@python -m pip install -qq -e '.[dev]' || { echo "The installation failed. It needs a package registry (PyPI) within reach."; exit 1; }
	@touch $@

# Formulas without network: one file of MathJax from npm. Without npm the pages load it when they are read.
$(MATHJAX):
	@python docs/mathjax.py $@
