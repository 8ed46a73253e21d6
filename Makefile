# make demo   set up what facet needs, track samples/demo.mp4 into out/demo.mp4
# make test   set up what the tests need, too, and run them
# make types  check the types of the package
# make setup  set up both
# make weights  successors of all files in weights/, from the material of FACET_MATERIAL, into runs/weights;
#               from random networks with FROM=--from-scratch; docs/training.md says how long it takes

VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready
TESTS  := $(VENV)/.ready-tests

.PHONY: setup demo test types check-long bench gallery weights lint clean

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

check-long: setup
	$(PYTHON) -m pytest tests -m long

lint: setup
	$(PYTHON) -m ruff check --quiet .

# facet finds its folders when it is imported, which mypy does not follow: it checks them where they lie once installed
types: setup
	rm -rf out/types/facet && mkdir -p out/types/facet
	ln -s $(CURDIR)/facet/* $(CURDIR)/app.py $(CURDIR)/tracker $(CURDIR)/detect $(CURDIR)/render out/types/facet
	cd out/types && $(abspath $(PYTHON)) -m mypy --config-file $(CURDIR)/pyproject.toml -p facet

bench: setup
	$(PYTHON) -m tools.bench

gallery: setup
	$(PYTHON) -m tools.gallery

DATA := runs/data
SUCCESSORS := runs/weights

weights: setup
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tools/requirements.txt
	mkdir -p $(SUCCESSORS) && cp weights/LICENSE.ict_facekit $(SUCCESSORS)
	$(PYTHON) -m tools.face_model -o $(SUCCESSORS)/face_model.npz
	$(PYTHON) -m tools.face_model.points --model $(SUCCESSORS)/face_model.npz
	$(PYTHON) -m tools.thumbnail -o $(SUCCESSORS)/appearance.npz
	test -e $(DATA)/faces.npz || $(PYTHON) -m tools.data.build faces --out $(DATA)
	test -e $(DATA)/fits.npz || $(PYTHON) -m tools.data.build fits --out $(DATA)
	$(PYTHON) -m tools.albedo --data $(DATA) -o $(SUCCESSORS)/skin.npz
	test -e $(DATA)/turned.npz || $(PYTHON) -m tools.data.build turned --out $(DATA)
	test -e $(DATA)/rendered.npz || $(PYTHON) -m tools.data.build rendered --out $(DATA)
	$(PYTHON) -m tools.train regressor_large_lids regressor_lids detector_end --data $(DATA) --export $(SUCCESSORS) $(FROM)
	$(PYTHON) -m tools.answers --weights $(SUCCESSORS)/regressor.onnx --data $(DATA)
	$(PYTHON) -m tools.answers --weights $(SUCCESSORS)/regressor_large.onnx --data $(DATA)

clean:
	rm -rf $(VENV) out
