# Everything runs in a virtual environment of the project's own, made and kept up to date by the targets themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
SAMPLE := zoo_samples/checkpoints/temperature_too_low-1

VISION := $(VENV)/vision

.PHONY: diagnose test tests vision test-compat lint notebooks docs figures layouts zoo bench clean

diagnose: $(STAMP)
	$(BIN)/mdtree diagnose $(SAMPLE).pt --sibling $(SAMPLE).sibling.pt

# lint and the networks of other packages beside the tests: what the one leaves of the processors the others take
test: $(STAMP) $(VISION)/installed
	$(MAKE) --no-print-directory -j3 lint tests vision

# one process more than processors: services and builds that the tests start are waited for now and then
tests: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder --durations=10

vision: $(VISION)/installed
	OMP_NUM_THREADS=1 PYTHONPATH=$(VISION) $(BIN)/python -m pytest tests/compat

# networks of torchvision and timm with a torch that matches them, the newest and the oldest that is supported: several
# gigabytes in environments of their own. `make test` runs the same tests beside the CPU's torch, for which the tests
# declare the few operators of torchvision that it lacks.
test-compat:
	for versions in requirements requirements-oldest; do \
		$(PYTHON) -m venv $(VENV)/compat-$$versions && \
		$(VENV)/compat-$$versions/bin/python -m pip install --quiet -r tests/compat/$$versions.txt && \
		$(VENV)/compat-$$versions/bin/python -m pip install --quiet -e '.[images,test]' && \
		$(VENV)/compat-$$versions/bin/python -m pytest tests/compat || exit 1; done

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile tests/notebooks

# one reference zoo anew from its specification, and the diagnoser fitted on all (some minutes; goes on where it was interrupted);
# on a machine of the same kind git sees no difference, but in the time it took
zoo: $(STAMP)
	$(BIN)/mdtree zoo build zoo_samples/digits_mlp.toml -o zoo_samples/anew.csv
	mv zoo_samples/anew.csv zoo_samples/digits_mlp.csv
	mv zoo_samples/anew.build.json zoo_samples/digits_mlp.build.json
	$(BIN)/mdtree train zoo_samples/*.csv -o mdtree/data_files/reference.json
	$(BIN)/python docs/phase_points.py
	$(BIN)/mdtree evaluate mdtree/data_files/reference.json zoo_samples/digits_mlp.csv

# the site, from README's pages to the reference, into docs/_build/html; nothing is fetched
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# the figures and tables that the documentation shows; the last takes ten minutes on four cores
figures: $(STAMP)
	$(BIN)/python docs/phase_points.py
	$(BIN)/python docs/decision_path.py
	$(BIN)/python docs/gallery.py
	$(BIN)/python docs/metrics.py
	$(BIN)/python docs/service_pictures.py
	$(BIN)/python docs/zoos.py
	$(BIN)/python docs/transfer.py --workers 4

# what every kind of checkpoint gives, as a table: docs/checkpoints.md
layouts: $(STAMP)
	$(BIN)/python tests/mdtree/layouts.py --write docs/checkpoints.md

# two parts need the folder of the public table, the engine's need real images (cifar10/ and mnist10k/ in a folder):
# make bench TABLE=folder DATA=folder (an hour; alone on the machine, since it takes times)
bench: $(STAMP)
	$(BIN)/python benchmarks/zoo_build.py
	$(BIN)/python benchmarks/label_noise.py
	$(BIN)/python benchmarks/digits_procedure.py
ifdef TABLE
	$(BIN)/python benchmarks/exact_fit.py $(TABLE)/dataframe_normal_public.csv
	$(BIN)/mdtree benchmark modeldiagnosis $(TABLE) --figures docs
endif
ifdef DATA
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[images,test,benchmarks]'
	for model in mlp cnn resnet; do \
		$(BIN)/python benchmarks/hessian.py --model $$model --data $(DATA) > benchmarks/hessian_$$model.md || exit 1; done
	$(BIN)/python benchmarks/hessian_growth.py > benchmarks/hessian_growth.md
	$(BIN)/python benchmarks/memory.py -o benchmarks/memory.md
	$(BIN)/python benchmarks/per_sample_norms.py
	$(BIN)/python benchmarks/measure_cost.py $(DATA)/cifar10 --write
	MDTREE_DATA=$(DATA) $(BIN)/python benchmarks/eigenvalue_reliability.py --write
	$(BIN)/python benchmarks/curve_budget.py --cifar10 $(DATA)/cifar10
endif

clean:
	rm -rf $(VENV)

# The stamp is written last, so an installation that was interrupted is taken up again.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mdtree needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[images,test]'
	touch $@

# In a folder of its own: beside a torch that it does not match, torchvision cannot be imported, and packages that import
# it where they find it would fail.
$(VISION)/installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade -c constraints.txt \
		--target $(VISION) timm torchvision
	touch $@
