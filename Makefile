# Two commands: `make demo` distils the bundled teacher and leaves a report; `make test` passes the tests.
# Both set up their environment in .venv first.
.PHONY: demo test setup check
RUN := .venv/bin/

setup:
	@sh scripts/setup.sh

demo: setup
	@$(RUN)fewstep demo --out runs/demo

test: setup
	@$(RUN)ruff check . && $(RUN)ruff format --check . && $(RUN)mypy && OMP_NUM_THREADS=1 $(RUN)python -m pytest -n 2

check: setup
	@$(RUN)ruff check . && $(RUN)ruff format --check . && $(RUN)mypy
