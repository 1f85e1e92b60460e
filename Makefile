# Needs python3 (3.11 or newer) with pip, and make. Nothing else: uv is fetched into .tools/,
# the packages named in uv.lock go into .venv/. No root rights, no `dot`, no conda.

PYTHON      ?= python3
UV_VERSION  := 0.13.9
UV          := .tools/uv-$(UV_VERSION)/bin/uv
RUN         := $(UV) run --frozen
RUN_TEST    := $(RUN) --group test
RUN_CHECK   := $(RUN) --group test --group check

LAB_FLAGS    ?=
PYTEST_FLAGS ?=
BENCH_FLAGS  ?=
FUZZ_IOCTLS  ?= 1000000
LITE_PORT    ?= 8000
FUZZ_SEED    ?= $(shell date +%F)
ANSWERS      ?=
THEME        ?= light
PAGES        := --execute --to html --template vfiosim --ExecutePreprocessor.store_widget_state=False
# What uv leaves out (`override-dependencies`) pip asks for, so in its file it stands like the rest.
EXPORT       := $(UV) export --quiet --frozen --no-emit-project --format requirements.txt --no-header | sed "s/ ; sys_platform == 'never'//"

export UV_PYTHON ?= $(PYTHON)
export UV_PYTHON_DOWNLOADS := never

# Workers, kernels and servers import the same modules again and again: compiled once, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

# The lock files name PyPI, whatever index this machine is set up to use.
lock static: export UV_DEFAULT_INDEX := https://pypi.org/simple

format static: export DENO_DIR := .deno_cache
format static: export DENO_NO_UPDATE_CHECK := 1

ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help lab lite lite-serve export slides gallery test fuzz programs nightly check static format lock sync bench wheel clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Flags: LAB_FLAGS=\"--no-browser --port=8899\"  PYTEST_FLAGS=\"-x -k bind\"  PYTHON=python3.12"

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vfiosim needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "vfiosim needs pip: install it for $(PYTHON), then try again." >&2; exit 1; }
	@echo "Fetching uv $(UV_VERSION) ..."
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
	    --no-deps --only-binary=:all: --upgrade --target .tools/uv-$(UV_VERSION) uv==$(UV_VERSION)

lab: $(UV) ## set everything up and open JupyterLab on the first notebook
	@$(UV) sync --frozen --quiet --inexact
	@mkdir -p .venv/share/jupyter/lab/settings
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}' >.venv/share/jupyter/lab/settings/overrides.json
	$(RUN) jupyter lab $(ROOT_FLAG) --LabApp.news_url= --ServerApp.root_dir="$(CURDIR)" \
	    --LabApp.default_url=/doc/tree/notebooks/00_start.ipynb $(LAB_FLAGS)

wheel: $(UV) ## write what `pip` installs into dist/: the package with its notebooks, and its source
	@$(UV) build --quiet --out-dir dist

lite: $(UV) ## write pages on which the notebooks run with nothing but a browser into dist/lite/
	@rm -rf dist/lite dist/vfiosim-*.whl && $(UV) build --quiet --wheel --out-dir dist
	@$(UV) export --quiet --frozen --only-group browser --no-header --format requirements.txt --output-file dist/browser.txt
	$(UV) run --isolated --frozen --only-group lite python deploy/lite/build.py dist/lite dist/vfiosim-*.whl dist/browser.txt

lite-serve: ## show them to a room without internet; LITE_PORT=8000
	@test -d dist/lite || $(MAKE) lite
	@$(PYTHON) deploy/lite/serve.py dist/lite $(LITE_PORT)

export: $(UV) ## write the notebooks as pages that work offline into dist/pages/; ANSWERS=1 adds the answers, THEME=dark
	VFIOSIM_PROGRESS= $(RUN) python -m nbconvert $(PAGES) --HTMLExporter.theme=$(THEME) $(if $(ANSWERS),--HTMLExporter.preprocessors=vfiosim.appendix.Answers) --output-dir dist/pages notebooks/*.ipynb
	@cp notebooks/*.md dist/pages/

slides: $(UV) ## write the notebooks as slides that work offline into dist/slides/; THEME=dark
	VFIOSIM_PROGRESS= $(RUN) python -m nbconvert $(subst vfiosim,vfiosim-slides,$(PAGES)) --HTMLExporter.theme=$(THEME) --output-dir dist/slides notebooks/*.ipynb
	@cp notebooks/*.md dist/slides/

gallery: $(UV) ## write the museum as pages that work offline into dist/gallery/
	$(RUN) python -m vfiosim gallery dist/gallery

test: $(UV) ## run the tests
	$(RUN_TEST) python -m pytest -n auto --maxprocesses=4 --dist loadgroup --no-loadscope-reorder $(PYTEST_FLAGS)

fuzz: $(UV) ## a million damaged calls; FUZZ_SEED="..." repeats a run
	$(RUN) python -m tests.fuzz --ioctls $(FUZZ_IOCTLS) --seed "$(FUZZ_SEED)"

nightly: $(UV) ## what is too heavy for every change: all tests under every Python found, a million damaged calls
	@failed=; $(MAKE) test PYTEST_FLAGS="--nightly $(PYTEST_FLAGS)" || failed="tests"; \
	.ci/interpreters --nightly -n auto -m "not browser" || failed="$$failed interpreters"; \
	$(MAKE) fuzz || failed="$$failed fuzz"; \
	test -z "$$failed" || { echo "failed: $$failed" >&2; exit 1; }

programs: $(UV) ## real programs on a simulated machine, QEMU where it is installed, the kernel's selftests (LINUX_SOURCE=its tree)
	@failed=; $(RUN_TEST) python -m pytest tests/test_programs.py --nightly $(PYTEST_FLAGS) || failed="tests"; \
	$(RUN_TEST) python tests/programs/selftests.py || failed="$$failed selftests"; \
	test -z "$$failed" || { echo "failed: $$failed" >&2; exit 1; }

check: static ## format, lint, types, layers, clean notebooks, lock files
	$(RUN_CHECK) python -m pytest -q tests/test_repository.py -k notebook

static: $(UV)
	$(UV) lock --check
	$(EXPORT) | diff -u requirements.lock -
	$(RUN_CHECK) ruff format --check
	$(RUN_CHECK) ruff check
	$(RUN_CHECK) mypy
	$(RUN_CHECK) deno fmt --check --quiet
	$(RUN_CHECK) deno lint --quiet
	$(RUN_CHECK) deno check --quiet assets
	$(RUN_CHECK) lint-imports

format: $(UV) ## format the code and the notebooks, and empty the notebooks' outputs
	$(RUN_CHECK) ruff format
	$(RUN_CHECK) ruff check --fix
	$(RUN_CHECK) deno fmt --quiet
	$(RUN) jupyter nbconvert --clear-output --inplace notebooks/*.ipynb

lock: $(UV) ## write uv.lock and requirements.lock anew from pyproject.toml
	$(UV) lock
	$(EXPORT) >requirements.lock

sync: $(UV) ## install everything a developer needs into .venv/
	$(UV) sync --frozen --all-groups --no-group lite --no-group hub

bench: $(UV) ## time the simulator
	@for script in benchmarks/*.py; do echo "== $$script"; $(RUN_TEST) python $$script $(BENCH_FLAGS) || exit 1; done

clean: ## delete what the other targets fetched or built
	rm -rf .tools .venv .deno_cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
