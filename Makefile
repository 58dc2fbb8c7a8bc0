# make run    start the gateway here        make check  what must hold before a commit
# make test   run every test                make bench  side-by-side comparisons
# make chaos    a bad day from SEEDS="1 2"  (kills, restarts, a clock that is set)
# make hostile  the attacks alone          make fuzz   made-up input, 20,000 of each kind
PYTHON ?= python3
CACHE  ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/huskies
BIN    := .venv/bin
SYNAPSE := $(CACHE)/synapse-$(shell cksum requirements/synapse.txt | cut -d' ' -f1)
PEERS := $(CACHE)/peers-$(shell cksum requirements/peers/package-lock.json | cut -d' ' -f1)

.PHONY: vendored screenshots run test check bench hostile fuzz chaos install locks docs
run: install
	$(BIN)/huskies run $(ARGS)

install: .venv/all.done

test: .venv/dev.done $(SYNAPSE)/done $(if $(shell sh -c 'command -v npm'),$(PEERS)/done)
	HUSKIES_SYNAPSE_PYTHON=$(SYNAPSE)/bin/python HUSKIES_PEERS=$(PEERS) $(BIN)/python -m $(if $(ARGS),pytest $(ARGS),tests.lanes $(LANES))

check: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m commands.page --check docs/commands.md

bench: .venv/dev.done
	$(BIN)/python -m benchmarks

# The lane of attacks, and those that the table of docs/security.md names elsewhere.
hostile: .venv/dev.done
	$(BIN)/python -m pytest tests/hostile $(shell grep -o 'tests/[^`]*::[a-z0-9_]*' docs/security.md | grep -v '^tests/hostile' | sort -u)

fuzz: .venv/dev.done
	$(BIN)/python -m pytest tests/hostile/test_fuzz.py --hypothesis-profile=fuzz

chaos: .venv/dev.done
	$(BIN)/python -m tests.chaos $(if $(SEEDS),--seeds $(SEEDS))

docs: .venv/dev.done
	$(BIN)/python -m commands.page docs/commands.md

.venv/all.done: requirements/all.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "huskies needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what huskies needs into .venv (about a minute) ..."
	$(BIN)/pip install --quiet --require-hashes -r requirements/all.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv/dev.done: requirements/dev.txt .venv/all.done
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

# A homeserver for the tests, in an environment of its own.
$(SYNAPSE)/done: requirements/synapse.txt
	$(PYTHON) -m venv $(SYNAPSE)
	$(SYNAPSE)/bin/pip install --quiet --require-hashes -r requirements/synapse.txt
	touch $@

# Third-party stand-ins for Slack and Twilio in tests. npm checks the hashes.
$(PEERS)/done: requirements/peers/package.json requirements/peers/package-lock.json
	mkdir -p $(PEERS)
	cp requirements/peers/*.json $(PEERS)
	cd $(PEERS) && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

# The page's own libraries, with their licences: served as their packages have them. npm checks the hashes.
VENDORED := $(CACHE)/page
vendored:
	mkdir -p $(VENDORED)
	cp requirements/page/*.json $(VENDORED)
	cd $(VENDORED) && npm ci --silent --ignore-scripts --no-audit --no-fund
	cp $(VENDORED)/node_modules/idiomorph/dist/idiomorph.min.js gateway/web/static/idiomorph.js
	cp $(VENDORED)/node_modules/idiomorph/LICENSE gateway/web/licences/idiomorph.txt
	cd gateway/web && sha256sum static/idiomorph.js > licences/SHA256SUMS

# Pictures of the page, for docs/: look at them before they are committed.
screenshots: .venv/dev.done
	$(BIN)/python -m tests.screenshots docs/images

# Hashes without addresses: any index that has the packages will do.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url
locks:
	$(COMPILE) pyproject.toml requirements/build.in --extra all -o requirements/all.txt
	$(COMPILE) pyproject.toml requirements/build.in --extra dev -o requirements/dev.txt
	$(COMPILE) requirements/synapse.in -o requirements/synapse.txt
	$(COMPILE) requirements/sled.in -c requirements/all.txt -o docker/sled-requirements.txt
	$(COMPILE) stacks/python/tools.in -o stacks/python/tools.txt
	for stack in jvm node rust; do \
	    $(COMPILE:3.11=3.13) --no-deps stacks/$$stack/tools.in -o stacks/$$stack/tools.txt || exit 1; done
