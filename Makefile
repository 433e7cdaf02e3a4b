# Thin: every target is one command that can be typed by hand. `make help` lists them.

PYTHON ?= python3
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The oldest that pyproject.toml allows.
OSLO ?= $(shell sed -n 's/^oslo = \["oslo.messaging>=\(.*\)"\]/\1/p' pyproject.toml)
STAMP := .venv/installed
export RDKNOTIFY_CACHE ?= $(CURDIR)/.cache

.DEFAULT_GOAL := help
.PHONY: help build demo test test-fast test-pythons test-oslo check bench bench-quick bench-micro bench-docs bench-oslo docs chaos endurance stress rolling threads reliability-docs asan valgrind tsan fuzz lock audit wheel wheels wheels-test wheels-docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

build: $(STAMP) ## virtual environment, librdkafka, extension; LOCKED=1 with the packages of requirements/dev.lock (CPython 3.11)

$(STAMP): pyproject.toml setup.py $(wildcard vendor/*.py) vendor/recipe.json src/_rdknotify.pyx src/librdkafka.pxd $(wildcard src/core/*.pxi)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	    { echo "Python 3.10 or newer is needed: install python3, or set PYTHON"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: install python3-venv"; exit 1; }
	@$(PYTHON) vendor/build.py >/dev/null
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "installing into .venv"
	@if test -n "$(LOCKED)"; then \
	    $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.lock && \
	    $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	else $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'; fi
	@touch $@

demo: build ## the main job, shown and checked; KAFKA=host:port on that broker instead of the embedded one
	@$(BIN)/rdknotify demo $(if $(KAFKA),--kafka $(KAFKA))

test: build ## everything, including real Kafka
	@said=$$($(BIN)/python -m rdknotify.testing 2>&1) || { echo "$$said; without a broker: make test-fast"; exit 1; }
	@$(BIN)/python -m pytest

test-fast: build ## all tests that need no broker
	@$(BIN)/python -m pytest -m "not broker"

test-pythons: ## the same on several CPythons; PYTHONS="python3.10 /opt/python3.13/bin/python"
	@for python in $(PYTHONS); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || \
	        { echo "$$python does not run: name the Pythons that are here in PYTHONS"; exit 1; }; \
	    echo "CPython $$version"; rm -rf build/lib.*; \
	    $$python -m venv build/venv-$$version && \
	    build/venv-$$version/bin/pip install --quiet --disable-pip-version-check '.[dev]' && \
	    build/venv-$$version/bin/python -m pytest -q -m "not broker" || exit 1; \
	done

test-oslo: ## the oslo.messaging driver with the oldest release it works with; OSLO=14.0.0 for another
	@rm -rf build/lib.*; $(PYTHON) -m venv build/venv-oslo-$(OSLO)
	@build/venv-oslo-$(OSLO)/bin/pip install --quiet --disable-pip-version-check '.[dev]'
	@build/venv-oslo-$(OSLO)/bin/pip install --quiet --disable-pip-version-check oslo.messaging==$(OSLO)
	@build/venv-oslo-$(OSLO)/bin/python -m pytest -q tests/faces/test_oslo_*.py tests/broker/test_oslo_*.py

check: build ## linters, types, and the extension's stub
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/cython-lint src/_rdknotify.pyx src/librdkafka.pxd
	@$(BIN)/cython-lint src/core/*.pxi
	@MYPYPATH=src $(BIN)/python -m mypy.stubtest rdknotify._rdknotify

bench: build ## beside the limit in C and the peers, with a report; KAFKA=host:port on that broker
	@$(BIN)/python -m benchmarks $(if $(KAFKA),--kafka $(KAFKA))

bench-quick: build ## the same once with few records: shows that all of it works
	@$(BIN)/python -m benchmarks --quick --output build/benchmarks/quick $(if $(KAFKA),--kafka $(KAFKA))
	@$(BIN)/python -m pytest -q benchmarks/micro

bench-micro: build ## what a URL, an envelope, enqueueing, outcomes and batches cost, without a broker
	@$(BIN)/python -m pytest benchmarks/micro

bench-docs: build ## docs/benchmarks.md and docs/scaling.md from the newest results of make bench
	@$(BIN)/python -m benchmarks.report --docs

bench-oslo: build ## oslo.messaging with its own Kafka driver and with ours; KAFKA=host:port on that broker
	@$(BIN)/python -m benchmarks.oslo $(if $(KAFKA),--kafka $(KAFKA))

docs: build ## the manual as a site in build/site, which needs no network to be read; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build --strict
	@echo "build/site/index.html"

chaos: build ## random faults against every client for 20 minutes, judged; SECONDS=180 SEED=7 REPLAY=chaos.json
	@$(BIN)/python -m reliability chaos --seconds $(or $(SECONDS),1200) --seed $(or $(SEED),1) $(if $(REPLAY),--replay $(REPLAY))

endurance: build ## a fixed rate for an hour while members and brokers come and go: nothing grows; MINUTES=5
	@$(BIN)/python -m reliability endurance --minutes $(or $(MINUTES),60)

stress: build ## twelve senders with small queues, the broker stopped every 20 s, for 3 minutes; SECONDS=60
	@$(BIN)/python -m reliability stress --seconds $(or $(SECONDS),180)

rolling: build ## three nodes restarted one after the other under load; ROUNDS=1
	@$(BIN)/python -m reliability rolling --rounds $(or $(ROUNDS),3)

threads: build ## eight threads that share a producer and a consumer, for 10 minutes; SECONDS=60 WITH=python3.13t
	@$(BIN)/python -m reliability threads --seconds $(or $(SECONDS),600) $(if $(WITH),--python $(WITH))

reliability-docs: build ## docs/reliability.md from the figures of the tests and the long runs
	@$(BIN)/python -m reliability page

asan: build ## tests of the core under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer (gcc); any report fails
	@$(BIN)/python -m reliability asan

valgrind: build ## some of them under valgrind
	@$(BIN)/python -m reliability valgrind

tsan: build ## the same under ThreadSanitizer; what it says of librdkafka is in docs/security.md
	@$(BIN)/python -m reliability tsan

fuzz: build ## what strangers' bytes do to the parsers, guided by coverage; SECONDS=300
	@$(BIN)/pip install --quiet --disable-pip-version-check "$$(sed -n 's/^fuzz = \["\([^;]*\);.*/\1/p' pyproject.toml)"
	@$(BIN)/python -m reliability fuzz --seconds $(or $(SECONDS),300)

lock: build ## requirements/dev.lock: every package of the dev extra and what it needs, with hashes, for CPython 3.11
	@$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --extra dev --no-emit-index-url \
	    --custom-compile-command 'make lock' --upgrade --output-file requirements/dev.lock pyproject.toml

audit: build ## known vulnerabilities among the locked packages; asks PyPI's advisories, so needs the network
	@$(BIN)/uv tool run --quiet --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes -r requirements/dev.lock

wheel: build ## sdist and wheel into dist/
	@$(BIN)/python -m build

wheels: build ## wheels for every Linux into dist/, checked, with checksums, SBOM and table; ONLY='cp312-*,*-musllinux_*'
	@$(BIN)/pip install --quiet --disable-pip-version-check 'rdknotify[wheels]'
	@$(BIN)/python -m wheels build $(if $(ONLY),--only '$(ONLY)')

wheels-check: build ## looks into each wheel of dist/, and builds it again elsewhere: the same bytes
	@$(BIN)/python -m wheels check --again

wheels-test: build ## installs each wheel of dist/ into an empty environment of its Python and runs tests there; ONLY='cp311-*' ON=3.12
	@$(BIN)/python -m wheels test $(if $(ONLY),--only '$(ONLY)') $(if $(ON),--python $(ON))

wheels-docs: build ## docs/platforms.md from what was built and what was run
	@$(BIN)/python -m wheels page

clean: ## remove all that was built; keeps .cache, where Kafka's jars are
	@rm -rf .venv build dist vendor/source src/*.egg-info src/_rdknotify.c src/rdknotify/*.so
	@find . -name __pycache__ -prune -exec rm -rf {} +
