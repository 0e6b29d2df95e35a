# Everything lives in .venv; a bare machine needs Python >= 3.10 (with venv) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint bench docs clean

setup: $(VENV)/.complete

# torch first and pinned, so that a range does not choose another one. Whether a registry's 2.13.0 is the build for
# CPUs (0.2 GB) or the one for GPUs (4.9 GB with its libraries) depends on the Python and on the registry.
$(VENV)/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,dev,docs]"
	touch $@

demo: setup
	$(BIN)/olivine demo

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# spconv's CPU wheel, where there is one, is what the sparse engine is timed against.
bench: setup
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/page.py docs/results/benchmarks.md

docs: setup
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) build docs/_build .mypy_cache .ruff_cache .pytest_cache
