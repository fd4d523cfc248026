# Everything a newcomer and CI need. Python 3.11 and make are enough to begin: the virtual environment is made here.
.PHONY: help run run-cluster check test test-plain test-upgrades test-cluster pythons bench lint format docs site release clean

VENV := .venv
BIN := $(VENV)/bin
READY_RUN := $(VENV)/ready-run
READY := $(VENV)/ready
READY_BENCH := $(VENV)/ready-bench
READY_SITE := $(VENV)/ready-site
# Compiled modules are kept, whatever the environment says: else each of the thousands of programs that the tests start compiles
# itself anew, which is two thirds of its start.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := $(shell command -v python3.11 || command -v python3)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-13s %s\n' "$$name" "$$what"; done

# 1: on the compiled build, whose modules are made beside their sources; else those go, for Python would prefer them to what has
# been edited since.
COMPILED = 0
EXTENSIONS = find tcp_proxy -name '*.so' -delete && rm -f tcp_proxy__mypyc.*
ifeq ($(COMPILED),1)
EXTENSIONS = TCP_PROXY_COMPILE=1 TCP_PROXY_COMPILE_LEVEL=1 $(BIN)/python setup.py --quiet build_ext --inplace
endif

run: $(READY_RUN) ## start echo targets and the proxy on config.json, until Ctrl-C
	@$(EXTENSIONS)
	@exec $(BIN)/python examples/run.py config.json --dead 127.0.0.1:9999  # the dead one of app six-thousand

run-cluster: $(READY) ## start three proxies that are one, an etcd and echo targets, until Ctrl-C (docs/cluster.md)
	@$(EXTENSIONS)
	@exec $(BIN)/python examples/cluster.py

# JOBS at once: 0 is one after another, auto is twice as many as there are processors, for most tests wait. Those that load the
# whole machine, or compare how much happens side by side, come afterwards, alone. Status 5: there was none to run.
JOBS = 0

test: $(READY) ## run the tests; make test ARGS="-k name" for some of them, JOBS=4 for four at once, COMPILED=1 for that build
	@$(EXTENSIONS)
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=worksteal -m 'not alone' $(ARGS); many=$$?; \
	$(BIN)/python -m pytest -m alone $(ARGS); alone=$$?; \
	case $$many,$$alone in 0,0|0,5|5,0) ;; *) exit 1 ;; esac

# A copy of the tree, for nobody has to be able to write where root works. Only root can become somebody else.
PLAIN = setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all

test-plain: ## run the data plane's and the program's tests as a user without a single capability (as root)
	@tree=$$(mktemp -d) && trap 'rm -rf "$$tree"' EXIT && git archive HEAD | tar -x -C "$$tree" && \
	mkdir "$$tree/tmp" && chown -R nobody:nogroup "$$tree" && chmod 755 "$$tree" && cd "$$tree" && \
	$(PLAIN) env HOME="$$tree" TMPDIR="$$tree/tmp" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
	$(MAKE) --no-print-directory test JOBS='$(JOBS)' COMPILED='$(COMPILED)' ARGS='$(if $(ARGS),$(ARGS),tests/dataplane tests/system)'

# One program after another takes over under load of every kind (docs/upgrade.md).
N = 100

test-upgrades: $(READY) ## that many upgrades in a row lose nothing: make test-upgrades N=100
	@$(EXTENSIONS)
	@exec $(BIN)/python -m benchmarks.upgrade_proof --upgrades '$(N)'

# Three proxies, etcd, targets and clients in networks of their own, and every fault once in each round (docs/cluster.md).
test-cluster: N = 3

test-cluster: $(READY) ## that many rounds of faults leave three proxies one (as root): make test-cluster N=3 ARGS="--seed 1"
	@$(EXTENSIONS)
	@exec $(BIN)/python -m benchmarks.cluster_proof --rounds '$(N)' $(ARGS)

# Before each commit: the linters, and tests of every layer that start no whole program, two at once.
FAST = tests/config tests/sansio tests/wire tests/runtime tests/control/access_log tests/control/listeners tests/control/statistics \
	tests/control/targets tests/dataplane/test_apps.py tests/dataplane/test_dial.py tests/dataplane/test_session.py \
	tests/test_docs.py tests/test_house.py tests/test_mirror.py
QUICKLY = --numprocesses=2 --dist=worksteal -m 'not alone and not slow'

check: lint ## before each commit: lint and the fast tests
	@$(EXTENSIONS)
	@exec $(BIN)/python -m pytest -q $(QUICKLY) $(FAST)

# What the classifiers in setup.cfg promise. NEEDED are those whose absence is an error; CI sets it.
PYTHONS = 3.11 3.12 3.13 3.14
NEEDED =

pythons: ## run the fast tests with each Python of PYTHONS that is installed; the others are skipped, by name
	@failed=; for version in $(PYTHONS); do \
		if ! python$$version -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "Python $$version: skipped, it is not installed"; \
			case ' $(NEEDED) ' in *" $$version "*) failed="$$failed $$version" ;; esac; \
			continue; \
		fi; \
		echo "Python $$version:"; \
		folder=build/pythons/$$version; \
		if [ ! -e $$folder/ready ] || [ setup.cfg -nt $$folder/ready ]; then \
			python$$version -m venv --clear $$folder && $$folder/bin/python -m pip install --quiet --disable-pip-version-check \
				--editable '.[test]' && touch $$folder/ready || { failed="$$failed $$version"; continue; }; \
		fi; \
		$$folder/bin/python -m pytest -q $(QUICKLY) $(FAST) || failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "not with Python:$$failed" >&2; exit 1; fi

# The benchmark's settings, e.g. make bench ROUNDS=1 SECONDS=1 ONLY="fresh kept" COMPARE=build/bench/earlier.json
ROUNDS = 5
SECONDS = 5
ONLY =
COMPARE =
HAPROXY =
OUTPUT = build/bench

bench: $(READY_BENCH) ## measure beside HAProxy and nginx (ROUNDS, SECONDS, ONLY, COMPARE, OUTPUT, HAPROXY, COMPILED)
	@$(EXTENSIONS)
	@exec $(BIN)/python -m benchmarks --rounds '$(ROUNDS)' --seconds '$(SECONDS)' --only '$(ONLY)' --compare '$(COMPARE)' --output '$(OUTPUT)' --haproxy '$(HAPROXY)'

lint: $(READY) ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/mypy --strict tcp_proxy benchmarks
	$(BIN)/lint-imports

format: $(READY) ## let ruff sort the imports and lay out the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

docs: $(READY) ## write anew what is made of other files: docs/config.md, openapi.json, manual pages
	@PYTHONPATH=. $(BIN)/python docs/make_config_md.py
	@PYTHONPATH=. $(BIN)/python docs/make_man.py
	@PYTHONPATH=. $(BIN)/python docs/make_openapi.py

site: $(READY_SITE) ## make a site of the pages in docs/, in build/site; a link that leads nowhere is an error
	$(BIN)/sphinx-build -q -W --keep-going -c docs/site -d build/site-cache -b html docs build/site

release: $(READY) ## make release VERSION=0.3.0: version, commit, tag, and dist with the packages; pushes nothing
	@exec $(BIN)/python packaging/release.py '$(VERSION)'

clean: ## remove the virtual environment and everything that tools left
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find tcp_proxy -name '*.so' -delete && rm -f tcp_proxy__mypyc.*

# Made anew when the dependencies change. The package itself is installed by reference, so that its sources are live. What
# `make run` needs comes first and alone: a newcomer does not wait for the tools of the tests.
$(READY_RUN): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 is missing: install it (Debian: apt install python3.11-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is incomplete: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(READY): $(READY_RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# The benchmark's table and plot need two packages more.
$(READY_BENCH): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

$(READY_SITE): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[site]'
	@touch $@
