# make train    sets up, pretrains, trains with PKPO, evaluates, draws: runs/
# make check    lint and most tests, with nothing but .venv
# make test     all tests that every change must pass
# make verify   those that take long, where due: docs/verification.md
# make figures  draws the figures of the paper there are data for: figures/
# make lint     format, lint and types
# make lock     resolves requirements.lock anew

UV := .uv/bin/uv
PYTHON := .venv/bin/python
WORKDIR := runs/countdown
VOCABULARY := .vocabulary/gemma2/tokenizer.json
# Most of the time of a test is compiling, so XLA's code generator does not
# optimise there.
TEST := XLA_FLAGS="--xla_backend_optimization_level=0 $$XLA_FLAGS" \
  $(PYTHON) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# What needs more than .venv and a few seconds.
BEYOND := slow or vocabulary or bwrap or libtpu or data or verify

.PHONY: train check test verify figures lint lock
.DEFAULT_GOAL := train

train: .venv/installed
	$(PYTHON) -m experiments.train --config=configs/countdown.py --workdir=$(WORKDIR)
	$(PYTHON) -m experiments.evaluate --workdir=$(WORKDIR)

check: lint
	$(TEST) -m "not ($(BEYOND))"

test: .venv/installed $(VOCABULARY) .libtpu/installed
	$(TEST) -m "not verify"

verify: .venv/installed $(VOCABULARY) .libtpu/installed
	$(PYTHON) tests/verify.py

figures: .venv/installed
	$(PYTHON) -m experiments.paper --out=figures

lint: .venv/installed
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# Python 3.12 as .python-version says; uv fetches one where there is none.
.venv/installed: requirements.lock setup.py | $(UV)
	$(UV) venv --quiet --clear .venv
	$(UV) pip install --quiet --python $(PYTHON) --compile-bytecode \
	  --requirement requirements.lock
	$(UV) pip install --quiet --python $(PYTHON) --no-deps --editable .
	touch $@

# Gemma's vocabulary, which tests alone need; users bring theirs.
$(VOCABULARY): | .venv/installed
	$(PYTHON) tests/helpers/fetch_vocabulary.py --out .vocabulary

# The TPU compiler, apart from .venv: there jax would look for a TPU with it.
.libtpu/installed: | $(UV)
	$(UV) pip install --quiet --target .libtpu libtpu==0.0.52
	touch $@

$(UV):
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv

lock: | $(UV)
	$(UV) pip compile --quiet setup.py --extra train --extra dev --universal \
	  --upgrade --no-header --no-annotate --output-file requirements.lock
