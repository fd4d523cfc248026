# Everything a newcomer and CI need. Python 3.11 and make are enough to begin: the virtual environment is made here.
.PHONY: help run test bench lint format clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
READY_BENCH := $(VENV)/ready-bench
PYTHON := $(shell command -v python3.11 || command -v python3)

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-8s %s\n' "$$name" "$$what"; done

run: $(READY) ## start echo targets and the proxy on config.json, until Ctrl-C
	@exec $(BIN)/python examples/run.py config.json --dead 127.0.0.1:9999  # the dead one of app six-thousand

# JOBS at once: 0 is one after another, auto is twice as many as there are processors, for most tests wait. Those that measure
# how soon something happens come afterwards, alone. Status 5: there was none to run.
JOBS = 0

test: $(READY) ## run the tests; make test ARGS="-k name" for some of them, JOBS=auto for several at once
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=worksteal -m 'not alone' $(ARGS); many=$$?; \
	$(BIN)/python -m pytest -m alone $(ARGS); alone=$$?; \
	case $$many,$$alone in 0,0|0,5|5,0) ;; *) exit 1 ;; esac

# The benchmark's settings, e.g. make bench ROUNDS=1 SECONDS=1 ONLY="fresh kept" COMPARE=build/bench/earlier.json
ROUNDS = 5
SECONDS = 5
ONLY =
COMPARE =
OUTPUT = build/bench

bench: $(READY_BENCH) ## measure beside HAProxy and nginx (ROUNDS, SECONDS, ONLY, COMPARE, OUTPUT)
	@exec $(BIN)/python -m benchmarks --rounds '$(ROUNDS)' --seconds '$(SECONDS)' --only '$(ONLY)' --compare '$(COMPARE)' --output '$(OUTPUT)'

lint: $(READY) ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/mypy --strict tcp_proxy benchmarks
	$(BIN)/lint-imports

format: $(READY) ## let ruff sort the imports and lay out the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and everything that tools left
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew when the dependencies change. The package itself is installed by reference, so that its sources are live.
$(READY): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 is missing: install it (Debian: apt install python3.11-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is incomplete: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# The benchmark's table and plot need two packages more.
$(READY_BENCH): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@
