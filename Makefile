# Two targets do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test test-slow mutate area test-light lint format generated docs bench clean

run: $(READY)
	$(BIN)/systolith run --out build/run --force

test: lint
	$(BIN)/pytest -rs -n auto --maxprocesses 4 --dist worksteal

test-slow: $(READY)
	$(BIN)/pytest -m slow -n auto --maxprocesses 2 --dist worksteal

# Every mutant of nine of the core's modules, most of an hour on two processors; interrupted, it goes on.
mutate: $(READY)
	$(BIN)/systolith mutate --out build/mutate

# The table of docs/synth.md.
area: $(READY)
	$(BIN)/systolith synth --sizes 4x4,8x8,16x16 --bits 4,8

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The parts of the docs that are written by what they describe.
generated: $(READY)
	$(BIN)/python tools/readme.py
	$(BIN)/python tools/architecture.py
	$(BIN)/python tools/transcripts.py
	$(BIN)/python tools/tutorial.py
	$(BIN)/python tools/pictures.py

docs: generated
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What needs no torch, in an environment without it: `make test-light PYTHON=python3.13`.
LIGHT := build/light-$(notdir $(PYTHON))
test-light:
	test -x $(LIGHT)/bin/python || $(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[waves,dev]'
	$(LIGHT)/bin/pytest -rs tests/array tests/vectors tests/stimulus tests/faults tests/verdict tests/cli/test_cli_grade.py \
	  tests/cli/test_cli_stimulus.py tests/test_equality.py tests/test_formats.py tests/test_store.py tests/test_imports.py

bench: $(READY)
	$(BIN)/python -m benchmarks.mapping

# A changed lock or pyproject installs again; otherwise this does nothing.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,train,onnx,waves,sim,rtl,cocotb,synth,cluster,docs,bench,dev]'
	touch $@

clean:
	rm -rf build $(VENV)
