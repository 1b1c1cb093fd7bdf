# Everything a developer or a newcomer runs. Needs make and Python 3.11 or newer; no root, Docker, Redis or Node.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test chaos lint format lock clean bench bench-endpoints bench-window bench-scale bench-fairness bench-sizing bench-history lock-bench

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 16

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tiercast needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@exec $(PYTHON) requirements/install.py $(VENV) requirements/dev.txt

run: $(STAMP)  ## Start everything on this machine, with a sample event (Ctrl-C stops it)
	@exec $(BIN)/tiercast up $(ARGS)

test: $(STAMP)  ## Run the whole suite, in parallel
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

kinds: $(STAMP)  ## Take the built-in kinds through the kit, and write the levels that they earn beside their code
	@$(BIN)/python -m pytest -q -n 2 --record-kinds tests/integration/test_kind_kit.py \
	  tests/integration/test_kind_kit_vendors.py $(ARGS)

chaos: $(STAMP)  ## Kill, freeze and starve real processes, count what is lost (ARGS="--only kill-workers")
	@$(BIN)/python -m tests.chaos $(ARGS)

lint: $(STAMP)  ## Check style, imports, types and the Lua scripts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/python -m tests.luacheck

format: $(STAMP)  ## Format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

BENCH = $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(N),--events $(N)) $(ARGS)

bench: $(STAMP)  ## Measure beside Celery, BullMQ and others, an hour (ARGS="--only http-30ms,http-300ms")
	@exec $(BIN)/python -m bench $(BENCH)

bench-window: $(STAMP)  ## Measure what the worker finds that a vendor bears, and its memory over 100,000 jobs
	@exec $(BIN)/python -m bench.window $(ARGS)

bench-endpoints: $(STAMP)  ## Measure the ceilings of the benchmark's own endpoints
	@exec $(BIN)/python -m bench.ceiling $(ARGS)

bench-scale: $(STAMP)  ## Measure the cost of an event with 10,000 and with 200,000 owed (ARGS="--owed 1000000")
	@exec $(BIN)/python -m bench.scale $(ARGS)

bench-fairness: $(STAMP)  ## Measure what hanging actions cost the others
	@exec $(BIN)/python -m bench.fairness $(ARGS)

bench-sizing: $(STAMP)  ## Compute machines for events a day from what the others measured
	@exec $(BIN)/python -m bench.sizing $(ARGS)

bench-history: $(STAMP)  ## Measure filing, and pages of a history of 5,000,000 deliveries (ARGS="--copies 0" for 500,000)
	@exec $(BIN)/python -m bench.history $(ARGS)

lock-bench:  ## Renew the lock files of the peers (needs uv and npm)
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock-bench" -c requirements/base.txt bench/requirements.in -o bench/requirements.txt
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock-bench" bench/requirements-arq.in -o bench/requirements-arq.txt
	cd bench/peers/fastify_bullmq && npm install --package-lock-only --omit-lockfile-registry-resolved=false

lock:  ## Renew the lock files (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" pyproject.toml -o requirements/base.txt
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" --group dev pyproject.toml -o requirements/dev.txt

clean:  ## Remove the virtual environments and caches (not your data in .tiercast/)
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .hypothesis
