# make demo   set up, track samples/demo.mp4 into out/demo.mp4
# make test   set up, run the tests

VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready

.PHONY: setup demo test bench gallery lint clean

setup: $(READY)

$(READY): requirements.txt tests/requirements.txt tools/setup.sh
	sh tools/setup.sh $(VENV)
	touch $(READY)

demo: setup
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
