# Two commands: make quickstart, make test. Everything else is listed in README.md.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# PRESET: smoke, cpu, mid or paper; JOBS: worker processes; DATA: folder of the data sets; ONLY: some experiments by name
PRESET ?= cpu
JOBS   ?= 2
DATA   ?= $(or $(ALDSGD_DATA),data)
# Where runs are kept, and where figures and tables of other runs than the committed ones go.
RESULTS ?= results
OUT    ?= $(if $(filter results,$(RESULTS)),figures,$(RESULTS))

THEORY := theory_spectrum theory_leader_mixing theory_orders theory_assumptions theory_rate theory_selection \
	theory_fading theory_scaling theory_lsgd theory_gossip theory_lies theory_staleness
# Those of the others are tables in THEORY.md alone.
DRAWN  := theory_spectrum theory_leader_mixing theory_assumptions theory_rate theory_selection theory_scaling \
	theory_leader_map flat

.PHONY: quickstart experiments theory figures tables test lint format clean

# Runs of your own, beside the committed ones in results/, which are complete and would not be trained again.
quickstart: $(VENV)/installed
	$(BIN)/python -m experiments.quickstart --results my_results
	$(BIN)/python -m figures.quickstart --results my_results --out my_results

# Goes on where it was stopped; `make experiments ONLY="sparsity ablation"` for some of them.
experiments: $(VENV)/installed
	$(BIN)/python -m experiments.all --preset $(PRESET) --jobs $(JOBS) --data $(DATA) $(if $(filter-out results,$(RESULTS)),--results $(RESULTS)) \
		$(if $(ONLY),--only $(ONLY))

theory: $(VENV)/installed
	set -e; for script in $(THEORY); do ALDSGD_DATA=$(DATA) $(BIN)/python -m experiments.$$script; done
	set -e; for script in $(DRAWN); do $(BIN)/python -m figures.$$script; done
	$(BIN)/python theory_report.py

# From the CSVs alone.
figures: $(VENV)/installed
	$(BIN)/python -m figures.all --results $(RESULTS) --out $(OUT)
ifeq ($(RESULTS),results)
	set -e; for script in $(DRAWN); do $(BIN)/python -m figures.$$script; done
endif

ifeq ($(RESULTS),results)
tables: $(VENV)/installed
	$(BIN)/python paper_tables.py --claims
	$(BIN)/python paper_tables.py --into README.md
	set -e; for page in docs/bad_input.md docs/found.md docs/methods.md docs/rerun.md docs/theory.md; do $(BIN)/python paper_tables.py --into $$page; done
	$(BIN)/python theory_report.py
else
tables: $(VENV)/installed
	$(BIN)/python paper_tables.py --results $(RESULTS) --out $(RESULTS)/tables.md
endif

test: $(VENV)/developing
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The stamp is written last, so that a broken installation is done again.
$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

# What developers need beside that: the tests, the linter.
$(VENV)/developing: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) .cache
