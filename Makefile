# Each target does its own set-up: nothing has to be done by hand before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Everything here works without a hub; loaders should not even try.
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1

QUICK := tests/runtime tests/test_layout.py tests/exporter/test_schedule.py \
	tests/exporter/test_fold_skips.py tests/exporter/test_dato.py tests/exporter/test_marks.py \
	tests/exporter/test_selection_check.py tests/exporter/test_verdict.py tests/exporter/test_memory.py

.PHONY: demo bench engines test test-quick test-cpp test-cpp-thread test-cpp-fuzz test-long lint format clean

## demo: a picture of each small model, with every call full and with a schedule
demo: $(READY)
	$(BIN)/python examples/demo.py

## bench: writes docs/benchmarks/cpu-emoji.*; takes some minutes, with nothing else running
bench: demo
	$(BIN)/python benchmarks/cpu.py

## engines: writes docs/benchmarks/engines.*; exports models of real sizes, with nothing else running
engines: $(READY)
	$(BIN)/python benchmarks/engines.py

## test: everything that must hold before a change lands
test: lint test-cpp
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile

## test-quick: the runtime, the layout and what needs no export; less than a minute
test-quick: $(READY)
	$(BIN)/python -m pytest -m "not long" -n auto --dist loadfile -q $(QUICK)

## test-cpp: the C++ runtime, with address and undefined behaviour sanitizers
test-cpp: $(READY)
	runtime/cpp/test.sh address

## test-cpp-thread: the same as a shared library, with the thread sanitizer
test-cpp-thread: $(READY)
	runtime/cpp/test.sh thread

## test-cpp-fuzz: hostile plans, manifests and tensor files, made by libFuzzer for ten seconds each
test-cpp-fuzz:
	runtime/cpp/test.sh fuzz

## test-long: what is run before a release: real sizes, kills, every dtype, seeded faults, fuzzing
test-long: $(READY) test-cpp-thread test-cpp-fuzz
	$(BIN)/python -m pytest -m long

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist out .mypy_cache .pytest_cache .ruff_cache .hypothesis engines/emoji

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# torch by itself first: a range would be answered with the newest build for GPUs.
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[export,dev,debug,tensorrt-rtx]'
	touch $(READY)
