PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check format lab-sample lab-dataset clean

demo: $(STAMP)
	$(BIN)/apptell demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff format --check src tests lab benchmarks
	$(BIN)/ruff check src tests lab benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format src tests lab benchmarks
	$(BIN)/ruff check --fix src tests lab benchmarks

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,pandas,test,dev]'
	touch $(STAMP)

lab-sample:
	lab/setup
	.lab-venv/bin/python -m lab sample

LAB_FLOWS ?= 97706
lab-dataset:
	lab/setup
	.lab-venv/bin/python -m lab dataset --flows $(LAB_FLOWS) -o lab-out/dataset

clean:
	rm -rf $(VENV) out
	find src -name '*.nb?' -delete
