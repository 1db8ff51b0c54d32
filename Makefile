# Two commands: `make demo` distils the bundled teacher and leaves a report; `make test` passes the tests.
# Both set up their environment in .venv first.
.PHONY: demo test test-matrix setup check docs
RUN := .venv/bin/

setup:
	@sh scripts/setup.sh

demo: setup
	@$(RUN)fewstep demo --out runs/demo

test: setup
	@$(RUN)ruff check . && $(RUN)ruff format --check . && $(RUN)mypy && OMP_NUM_THREADS=1 $(RUN)python -m pytest -n 2

check: setup
	@$(RUN)ruff check . && $(RUN)ruff format --check . && $(RUN)mypy

# The documentation as a site in site/; any warning is an error.
docs: setup
	@$(RUN)python -c "import material, mkdocstrings_handlers.python" 2>/dev/null || $(RUN)python -m pip install -q -e ".[docs]"
	@NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --strict

# With the oldest and the newest libraries that pyproject.toml allows: a subset, or all tests with FULL=1.
test-matrix: setup
	@sh scripts/test_matrix.sh
