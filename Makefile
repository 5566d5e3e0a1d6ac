# Two targets do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test test-slow lint format docs bench clean

run: $(READY)
	$(BIN)/systolith run --out build/run --force

test: lint
	$(BIN)/pytest -rs -n auto --maxprocesses 4 --dist worksteal

test-slow: $(READY)
	$(BIN)/pytest -m slow

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	$(BIN)/python tools/readme.py

bench: $(READY)
	$(BIN)/python -m benchmarks.mapping

# A changed lock or pyproject installs again; otherwise this does nothing.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,train,onnx,waves,sim,dev]'
	touch $@

clean:
	rm -rf build $(VENV)
