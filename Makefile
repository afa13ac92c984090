# Every target sets up what it needs (tools/bootstrap.py); nothing has to be installed first but Python 3.11+ and make.

PY := .venv/bin/python
JOBS ?= 2

.PHONY: help demo test test-slow check bench bench-silicon docs format lock clean setup-demo setup-dev

help:
	@echo "make demo       start the service with the default model and talk to it with real clients"
	@echo "make test       unit, contract and crash tests (under 10 minutes on two cores)"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make check      style, types, import laws, generated files, locks (under a minute)"
	@echo "make bench      measure what the gateway adds to a request"
	@echo "make bench-silicon  measure the simulated device against NumPy on the same matrices"
	@echo "make docs       write the generated pages of docs/reference"
	@echo "make format     put code in the house style"
	@echo "make lock       resolve pyproject.toml into the requirements locks"
	@echo "make clean      remove .venv, caches and build results"

setup-demo:
	@tools/setup.sh demo

setup-dev:
	@tools/setup.sh dev

demo: setup-demo
	$(PY) tools/demo.py

# One thread per worker: two test workers with two PyTorch threads each would fight over two cores.
test: setup-dev
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

test-slow: setup-dev
	@$(PY) -m pytest -m slow --timeout 1800 $(ARGS); code=$$?; \
	if [ $$code -eq 5 ]; then echo "test-slow: no test is slow enough for this yet (tests/slow)"; else exit $$code; fi

check: setup-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports
	$(PY) -m mypy
	$(PY) tools/lock.py --check
	@for generator in tools/generate_*.py; do \
		echo "$(PY) $$generator --check"; $(PY) $$generator --check || exit 1; \
	done

bench: setup-dev
	$(PY) bench/gateway.py

bench-silicon: setup-dev
	$(PY) bench/silicon_functional.py

docs: setup-dev
	@for generator in tools/generate_*.py; do echo "$(PY) $$generator"; $(PY) $$generator || exit 1; done

format: setup-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lock: setup-dev
	$(PY) tools/lock.py

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/contract/node/node_modules
	find src tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +
