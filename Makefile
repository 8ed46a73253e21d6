# make demo   set up what facet needs, track samples/demo.mp4 into out/demo.mp4
# make test   set up what the tests need, too, and run them
# make setup  set up both

VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready
TESTS  := $(VENV)/.ready-tests

.PHONY: setup demo test bench gallery lint clean

setup: $(TESTS)

$(READY): requirements.txt tools/setup.sh
	sh tools/setup.sh $(VENV) requirements.txt
	touch $(READY)

$(TESTS): $(READY) tests/requirements.txt
	sh tools/setup.sh $(VENV) tests/requirements.txt
	touch $(TESTS)

demo: $(READY)
	mkdir -p out
	$(PYTHON) app.py -f samples/demo.mp4 -o out/demo.mp4

test: setup lint
	$(PYTHON) -m pytest tests --ignore=tests/tools

lint: setup
	$(PYTHON) -m ruff check --quiet .

bench: setup
	$(PYTHON) -m tools.bench

gallery: setup
	$(PYTHON) -m tools.gallery

clean:
	rm -rf $(VENV) out
