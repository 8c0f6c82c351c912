PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
SOURCES := src tests lab benchmarks

.PHONY: help demo test test-oldest test-sdist test-image check format build docs scorecard pictures bench lab-sample lab-dataset clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(STAMP)  ## install into .venv, then train, measure, identify and write a report on embedded samples
	$(BIN)/apptell demo

test: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

ROOMS := tests/capture tests/records tests/verdicts tests/names tests/flows tests/catalogue tests/cli/test_identify.py

test-oldest:  ## test identification against the oldest versions that pyproject.toml allows
	$(PYTHON) -m venv --clear $(VENV)-oldest
	$(PYTHON) .ci/oldest_versions.py test > $(VENV)-oldest/constraints.txt
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-oldest/constraints.txt '.[test]'
	$(VENV)-oldest/bin/python -m pytest $(ROOMS)

test-sdist: build  ## install the wheel of PYTHON in a fresh environment and test it from the unpacked source distribution
	rm -rf $(VENV)-sdist && $(PYTHON) -m venv $(VENV)-sdist
	tar xzf dist/apptell-*.tar.gz -C $(VENV)-sdist
	$(VENV)-sdist/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls dist/apptell-*.whl)[test]"
	cd $(VENV)-sdist/apptell-* && ../bin/python -m pytest $(ROOMS)

test-image: $(STAMP)  ## build the container image and run it (needs podman or docker)
	APPTELL_TEST_IMAGE=1 $(BIN)/python -m pytest tests/test_image.py

check: $(STAMP)  ## check formatting, lint, types and import rules
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

format: $(STAMP)  ## format the code and apply safe lint fixes
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

build: $(STAMP)  ## build the source distribution and the wheel, with compiled kernels and man pages, into dist/
	rm -rf dist build/man1
	$(BIN)/python docs/make_man_pages.py -o build/man1
	$(BIN)/python -m build --no-isolation --sdist --wheel; done=$$?; rm -rf build/man1; exit $$done

docs: $(DOCS_STAMP)  ## build the documentation into docs/_build/html; a warning or a broken link is an error
	$(BIN)/python docs/make_python_reference.py
	$(BIN)/python docs/make_report_tables.py
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

scorecard: $(STAMP)  ## collect the headline figures of the reports, with those before them
	$(BIN)/python docs/make_scorecard.py
	$(BIN)/python docs/make_report_tables.py

pictures: $(STAMP)  ## make the screenshots of apptell serve in docs/img again (needs Chromium)
	$(BIN)/python docs/make_pictures.py

bench: $(STAMP)  ## measure the flow engine beside its peers, where they are installed
	$(BIN)/python -m benchmarks.flow_engine

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[train,pandas,serve,test,dev]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > $(VENV)/compiled.log || true  # pip would compile one file after the other
	touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $(DOCS_STAMP)

lab-sample:  ## record the embedded samples again (root, Linux)
	lab/setup
	.lab-venv/bin/python -m lab sample

LAB_FLOWS ?= 97706
lab-dataset:  ## record a dataset at the paper's size (root, Linux, hours)
	lab/setup
	.lab-venv/bin/python -m lab dataset --flows $(LAB_FLOWS) -o lab-out/dataset

clean:  ## delete everything that was built
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-sdist out dist docs/_build
	find src \( -name '*.nb?' -o -name '*.mc' \) -delete
