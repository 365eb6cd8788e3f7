# One command per task. Each prepares what it needs: a virtual environment, and in it the package with
# the extra that the task asks for, again only when pyproject.toml has changed.
#
#   make demo ARGS="--help"      make test ARGS="-k adamw"      make bench ARGS="..."

# The lower bound of jax in pyproject.toml.
OLDEST_JAX := 0.7.2

JOBS ?= 2
VENV := .venv
OLDEST := .venv-oldest
NEWEST := .venv-newest

# The first Python that is new enough, and the newest that there is.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
NEWEST_PYTHON ?= $(shell for p in $(PYTHON) python3.12 python3.13 python3.14 \
	$(wildcard $(HOME)/.pyenv/versions/*/bin/python3.1[2-4]); do \
	$$p -c 'import sys; print("%d.%03d" % sys.version_info[:2], sys.executable)' 2>/dev/null; done \
	| sort | tail -n 1 | cut -d " " -f 2-)

.PHONY: help demo test test-extra test-optax check lint bench counts parity docs serve test-site examples dist test-oldest test-newest clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo "make demo         train a small network on images of digits"
	@echo "make test         the tests"
	@echo "make test-extra   more of them: variations of what the tests show"
	@echo "make test-optax   Optax's own tests, with gradtx in its place; ARGS=--plain without"
	@echo "make check        laws and oracles of one row of tests/table.py: make check ROW=scale_by_adam"
	@echo "make lint         formatting, lint and types"
	@echo "make examples     every example, at reduced size"
	@echo "make docs         the documentation, into build/site"
	@echo "make serve        the documentation at http://localhost:8000, anew whenever a page changes"
	@echo "make test-site    every page of build/site in a browser, and the search"
	@echo "make bench        the benchmarks; see benchmarks/README.md"
	@echo "make counts       what can be counted of an update, beside benchmarks/results/counts.json; ARGS=--write"
	@echo "make parity       every public name of Optax beside what is here, into docs/optax_names.md"
	@echo "make dist         sdist and wheel, and a check of the wheel with jax alone"
	@echo "make test-oldest  the tests with jax $(OLDEST_JAX)"
	@echo "make test-newest  the tests with the newest jax on the newest Python here"
	@echo "make clean        remove environments, caches and everything built"

demo: $(VENV)/with-demo
	$(VENV)/bin/python examples/digits.py $(ARGS)

# Each process begins with tests that stand side by side, for which it compiles the same programs once.
PYTEST := -m pytest -n $(JOBS) --dist worksteal

test: $(VENV)/with-test
	$(VENV)/bin/python $(PYTEST) -m "not extra" $(ARGS)

test-extra: $(VENV)/with-test
	$(VENV)/bin/python $(PYTEST) -m extra $(ARGS)

test-optax: $(VENV)/with-test
	$(VENV)/bin/python $(PYTEST) -c tests/optax_suite/pytest.ini --rootdir . optax tests/optax_suite/docstring_examples.py $(ARGS)

check: $(VENV)/with-test
	@test -n "$(ROW)" || { echo "Say which row of tests/table.py: make check ROW=scale_by_adam"; exit 1; }
	$(VENV)/bin/python -m pytest tests/test_laws.py tests/test_oracles.py --row "$(ROW)" $(ARGS)

lint: $(VENV)/with-test
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright

examples: $(VENV)/with-test $(VENV)/with-cookbook
	@rm -rf build/examples
	@for example in $$(find examples -name "*.py" -type f | sort); do \
		out=$$(grep -qE "[\"'](--)?out[\"']" $$example && echo "--out build/examples/$$(basename $$example .py)"); \
		echo "$$example $$out"; \
		GRADTX_QUICK=1 MPLBACKEND=agg $(VENV)/bin/python $$example $$out || exit 1; \
	done

bench: $(VENV)/with-bench
	$(VENV)/bin/python benchmarks/run.py $(ARGS)

counts: $(VENV)/with-bench
	$(VENV)/bin/python benchmarks/counts.py $(ARGS)

parity: $(VENV)/with-bench
	$(VENV)/bin/python benchmarks/optax_names.py --out docs/optax_names.md

# The build runs the sessions of the pages; the pairs of "Coming from PyTorch", for which torch is there, run before it.
docs: $(VENV)/with-docs $(VENV)/with-test
	$(VENV)/bin/python -m pytest -q tests/torch_parity/test_from_pytorch.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --clean
	@echo "open build/site/index.html"

serve: $(VENV)/with-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve

test-site: $(VENV)/with-browser
	@test -f build/site/index.html || $(MAKE) docs
	$(VENV)/bin/python -m pytest docs/test_site.py $(ARGS)

dist: $(VENV)/with-dist
	rm -rf dist build/wheel
	$(VENV)/bin/python -m build --outdir dist
	$(VENV)/bin/python -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet dist/*.whl
	cd "$$(mktemp -d)" && $(CURDIR)/build/wheel/venv/bin/python -I -c "$$CHECK_WHEEL"

# Runs outside the repository, in an environment that has jax alone.
define CHECK_WHEEL
import importlib.metadata, importlib.util, pathlib
import gradtx, jax, jax.numpy as jnp
extras = ("absl", "chex", "flax", "matplotlib", "optax", "torch")
found = [name for name in extras if importlib.util.find_spec(name)]
assert not found, f"the environment is not bare: {found}"
assert "site-packages" in gradtx.__file__, gradtx.__file__
assert pathlib.Path(gradtx.__file__).with_name("py.typed").is_file()
tx, params = gradtx.adamw(0.1), {"w": jnp.ones(3)}
state = tx.init(params)
for _ in range(100):
    grads = jax.grad(lambda params: jnp.sum((params["w"] - 2) ** 2))(params)
    updates, state = tx.update(grads, state, params)
    params = gradtx.apply_updates(params, updates)
assert jnp.allclose(params["w"], 2, atol=0.1), params
print("gradtx", importlib.metadata.version("gradtx"), "works with jax", jax.__version__, "alone")
endef
export CHECK_WHEEL

test-oldest: $(OLDEST)/with-$(OLDEST_JAX)
	$(OLDEST)/bin/python $(PYTEST) $(ARGS)

test-newest: $(NEWEST)/with-newest
	$(NEWEST)/bin/python $(PYTEST) $(ARGS)

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments -----------------------------------------------------------------------------------

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where it is: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/with-%: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[$*]"
	@touch $@

$(OLDEST)/with-$(OLDEST_JAX): pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --editable ".[test]" jax==$(OLDEST_JAX)
	@touch $@

$(NEWEST)/with-newest: pyproject.toml
	$(NEWEST_PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --editable ".[test]"
	@touch $@
