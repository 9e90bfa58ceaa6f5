# Each target makes .venv and installs what it needs. torch comes first, so that nothing pulls another build of it. pip
# compiles nothing: Python compiles what is imported, which is a small part of what is installed. It keeps what it has
# compiled, whatever the environment says: to compile torch and the harness again takes each process six seconds.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --disable-pip-version-check --no-compile -c constraints.txt

# Real CREMA-D clips for the tests, where there are some; the tests that need them skip with the reason elsewhere.
AMBI_TEST_DATA ?= $(abspath $(wildcard ../shared/data))
export AMBI_TEST_DATA

.PHONY: test-vllm demo docs test test-quick lint clean

demo: .venv/package
	$(BIN)/lm_eval --model hf-audio --model_args pretrained=ambi-tiny --tasks ambi_demo --batch_size auto --log_samples --output_path runs/demo
	$(BIN)/ambi-eval report runs/demo -o runs/demo/report.html
	@echo "Results: $(CURDIR)/runs/demo  Report: $(CURDIR)/runs/demo/report.html"

# The site of docs/, in site/; a broken link or a page that the navigation forgets is an error. Search needs a server:
# python -m http.server -d site
docs: .venv/package
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "The site: $(CURDIR)/site/index.html"

# Models as small as those of the tests are slower on several threads than on one. Each worker takes whole files or
# folders, those with slow tests first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test test-quick: export OMP_NUM_THREADS ?= 1
test: .venv/develop
	$(PYTEST)

# All but the tests that start processes, train or take long.
test-quick: .venv/develop
	$(PYTEST) -m "not slow"

# The real vLLM on a CPU, in an environment of its own (.venv/vllm: 3.7 GB, minutes); where there is no room, it says so.
# AMBI_TEST_VLLM=FOLDER takes an environment that is there.
test-vllm: export AMBI_TEST_VLLM ?= 1
test-vllm: .venv/develop
	$(BIN)/python -m pytest tests/serving/test_vllm_for_real.py --durations=5

lint: .venv/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv runs dist site

.venv/torch: constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	touch $@

.venv/package: .venv/torch pyproject.toml
	$(PIP) -e .
	touch $@

.venv/develop: .venv/torch pyproject.toml
	$(PIP) -e '.[test,lint]'
	# For the tests of some model families; their compiled parts want a GPU's libraries (see tests/support/fixtures.py).
	$(PIP) --no-deps --upgrade --target .venv/families torchvision torchaudio timm
	find .venv/families -name '*.so' -delete
	# Checks that the pages are accessible; the tests that need it skip with the reason elsewhere.
	! command -v npm >/dev/null || npm install --silent --no-fund --no-audit --prefix .venv/axe axe-core@4
	# One process compiles what the tests import and indexes the harness's tasks, before several do so at once.
	-$(BIN)/python -m pytest --quiet -k test_results_that_cannot_be_written >/dev/null
	touch $@
