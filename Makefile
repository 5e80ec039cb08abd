# The two commands of the README: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ELSEWHERE := $(addprefix tests/,protocol config store xmlrpc web server plugin plugins relay satellite testing cli)
STAMP  := $(VENV)/.installed
# Where `peers` installs what is missing unasked a test that finds no peer fails rather than skips.
INSTALLS := command -v apt-get >/dev/null && { [ -n "$$CI" ] || [ "$$(id -u)" -eq 0 ]; }
BENCH_STAMP := $(VENV)/.bench-installed
# The version with which the benchmark compares: the last one without times, last values and causes.
EARLIER ?= 251c894
# The subpackages without processes, sockets and disks, and the tests of single modules. Almost: a few tests open a local
# socket, write a file or start Python. What takes seconds is left out.
QUICK := $(addprefix tests/,protocol config xmlrpc web) \
	$(filter-out %_docs.py %_make.py %_needs.py %_setup.py %_wheel.py,$(wildcard tests/test_*.py))
# Percent of lines and branches that a subpackage's own tests run at least: what they do, rounded down. They only rise.
FLOORS := protocol.99 store.98 xmlrpc.99 config.98
# Without bytecode every process that a test or the benchmark starts would compile all of co2 again: twice the time until
# it is ready, and nobody uses it so.
unexport PYTHONDONTWRITEBYTECODE
# What ruff checks and formats.
CODE := src tests bench tools hatch_build.py

# Run $(1) and say how long it took, whatever came of it.
timed = @began=$$(date +%s); ( $(1) ); status=$$?; echo "make $@ took $$(($$(date +%s) - began)) s"; exit $$status

.PHONY: help venv pins peers demo quick format check test coverage mutants elsewhere soak attack simulate diagrams reference reloads late-joiner lint bench clean another-python calls
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*##/ { printf "%-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP)  ## .venv with everything in it, .venv/bin/co2 included

# Where somebody says which PYTHON, and .venv has another one, it is made anew; without a word it stays as it is.
WHICH := -c 'import sys; print(sys.version, sys.base_prefix)'
ifneq ($(origin PYTHON),file)
ifneq ($(shell ($(PYTHON) $(WHICH)) 2>/dev/null),$(shell ($(BIN)/python $(WHICH)) 2>/dev/null))
$(STAMP): another-python
endif
endif
$(STAMP): requirements/runtime.txt requirements/dev.txt pyproject.toml hatch_build.py src/co2/plugin/child/_speedups.c src/co2/server/express/_express.c
	@PYTHON="$(PYTHON)" bash tools/make-venv.sh $(VENV) $?
	@touch $@

$(BENCH_STAMP): $(STAMP) requirements/bench.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

pins:  ## write requirements/*.txt, with hashes, from the pins in requirements/*.in
	@bash tools/pin.sh

peers:  ## the real peers that tests and bench talk to (liblo-tools, wrk, clients in other languages), and a clock that is wrong, from packages
	@bash tools/install-peers.sh oscsend:liblo-tools:liblo wrk:wrk:wrk faketime:faketime:libfaketime
	@bash tools/install-clients.sh

demo: venv  ## a relay and three satellites with real readings and real OSC packets
	@$(BIN)/python -m co2.cli.demo

quick: venv  ## the rooms that do no I/O, with 10 examples of each property: while you work (20 s)
	$(call timed,$(BIN)/python -m pytest -q -n 2 --dist loadgroup --hypothesis-profile=quick $(QUICK))

format: venv  ## format the code, and fix what ruff can fix by itself
	@$(BIN)/ruff check --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

check: venv  ## lint and quick: before a commit (90 s)
	$(call timed,$(MAKE) --no-print-directory lint quick)

test: venv peers  ## the whole suite
	$(call timed,$(INSTALLS) && export CO2_TEST_STRICT=1; $(BIN)/python -m pytest -n 2 --dist loadgroup)

coverage: venv  ## which lines and branches of protocol, store, xmlrpc and config their own tests do not run; fails below FLOORS
	$(call timed,$(BIN)/coverage run -m pytest -q $(addprefix tests/,$(basename $(FLOORS))) && $(BIN)/coverage report && \
		for floor in $(FLOORS); do echo "src/co2/$${floor%.*}: $${floor#*.} % at least" && \
		$(BIN)/coverage report --format=total --include="src/co2/$${floor%.*}/*" --fail-under=$${floor#*.} || exit; done)

mutants: venv  ## plant COUNT=60 changes drawn by SEED=1, one at a time, from FIRST=1 on, and name those that no test notices (an hour)
	$(call timed,$(BIN)/python tools/mutants.py --seed $(or $(SEED),1) --count $(or $(COUNT),60) --first $(or $(FIRST),1) --jobs $(or $(JOBS),2))

elsewhere: venv  ## the rooms' tests as on macOS, as far as Linux can show that; ROOMS=tests/plugin for one
	@ulimit -Sn 256; PYTHONPATH=tests/elsewhere/macos $(BIN)/python -m pytest -n 2 --dist loadgroup $(or $(ROOMS),$(ELSEWHERE))

soak: venv  ## kill, cut and stop real hosts a thousand times; every message is accounted for (half an hour)
	@$(BIN)/python -m tests.soak $(SOAK)

attack: venv  ## all attacks at once on one real relay, ATTACK=15 minutes; satellites that mean well lose nothing
	@$(BIN)/python -m tests.siege --minutes $(or $(ATTACK),15)

simulate: venv  ## SEEDS=1000 worlds from a seed each, FIRST=0 the first, JOBS=2; SIMULATE=--bugs for the planted ones
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),0) --jobs $(or $(JOBS),2) $(SIMULATE)

diagrams: venv  ## draw the states of a link and of a package into docs/architecture.md
	@$(BIN)/python tools/draw_states.py

reference: venv  ## write the reference of commands and of the plugin API from their help and docstrings
	@$(BIN)/python tools/write_reference.py

reloads: venv  ## 200 changes of a plugin's code under 20,000 messages a second: nothing lost, pauses, memory (a minute)
	@CO2_TEST_RELOADS=200 $(BIN)/python -m pytest -q -s tests/system/test_reload.py

late-joiner: venv  ## plugins that join in the middle of 20,000 messages a second on 500 channels (a minute)
	@CO2_TEST_LATE_JOINER_RATE=20000 $(BIN)/python -m pytest -q tests/system/test_last_values.py -k joins

calls: venv  ## count the Python functions and files that one message, one XML-RPC call and one reload pass through
	@$(BIN)/python tools/count_calls.py

lint: venv  ## format, lint, types, import direction
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/mypy --platform darwin src
	@$(BIN)/lint-imports

bench: venv peers $(BENCH_STAMP)  ## measure co2 beside its peers and other brokers, write docs/reports/bench.md
	@PATH="$$PATH:/usr/sbin" bash tools/install-peers.sh redis-server:redis-server mosquitto:mosquitto
	@PYTHON="$(PYTHON)" bash tools/make-earlier.sh $(VENV)/earlier $(EARLIER)
	@CO2_BENCH_EARLIER=$(EARLIER) $(BIN)/python -m bench

clean:  ## remove .venv, caches and compiled modules
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src -name '*.so' -delete
