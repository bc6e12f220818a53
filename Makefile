# Two commands do everything: `make demo` and `make test`. Both set the project up first, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test quick check docs reference results learned bench gpu-check same-loss study faults slurm-up slurm-down slurm-test clean
.DEFAULT_GOAL := help

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV): PyTorch and what else pyproject.toml names, some minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP) ## run the sweep `demo` on two cores and print its table (minutes; again: seconds)
	$(BIN)/ctt sweep demo launch=local
	@echo "MLflow: $(BIN)/ctt ui    the table again: $(BIN)/ctt report demo"

test: $(STAMP) check ## everything that is tested
	$(PYTEST) --durations 15

quick: $(STAMP) ## the tests that are not marked slow: two minutes, for while you write
	$(PYTEST) -m "not slow"

check: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP) ## the site in build/docs, warnings being errors; addresses it links to: build/external-links.txt
	$(BIN)/python docs/make_reference.py --check
	$(BIN)/python docs/make_results.py --check
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html -d build/doctrees docs build/docs
	grep -rhoE 'https?://[^][ )>"`]+' README.md docs --include=*.md | sort -u > build/external-links.txt

reference: $(STAMP) ## the pages of docs/reference that come from the code
	$(BIN)/python docs/make_reference.py

results: $(STAMP) ## measure all numbers of docs/results, of this commit and machine (hours; again: goes on)
	$(BIN)/python docs/make_results.py

learned: $(STAMP) ## run the demo if need be, and check what it has learnt
	$(BIN)/ctt sweep demo launch=local > /dev/null
	$(BIN)/python -m tests.learned

bench: $(STAMP) ## measure the speed ratios to the literal versions (ONLY=name: those alone) → bench.json
	$(BIN)/python -m tests.benchmarks $(ONLY)

gpu-check: $(STAMP) ## on a GPU, 8 minutes: equality with the CPU, bits, speed, waits, the literal version → gpu.json
	$(BIN)/python -m tests.gpu

same-loss: $(STAMP) ## what `bench` leaves out: whether cheap dropout and bfloat16 train as well, over three seeds (minutes)
	$(BIN)/python -m tests.benchmarks.same_loss

study: $(STAMP) ## what ALOE learns on synthetic scenes (under an hour; again: goes on)
	$(BIN)/python -m tests.benchmarks.aloe_study

FAULTS := tests/faults tests/store tests/execution/test_late_artifacts.py tests/execution/slurm/test_late_files.py tests/execution/cluster

faults: $(STAMP) ## all fault injection, over an hour, with one count at its end (others: CTT_FAULTS_SEED=1)
	CTT_FAULTS=full $(PYTEST) --timeout 7200 $(FAULTS)

slurm-up: ## a private SLURM cluster of two virtual nodes
	launch/devcluster/up

slurm-down: ## stop it
	launch/devcluster/down

slurm-test: $(STAMP) ## the tests that need SLURM
	$(BIN)/python -m pytest tests/execution/cluster

clean: ## forget .venv (the store stays)
	rm -rf $(VENV)
