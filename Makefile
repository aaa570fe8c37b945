# make lab      set up .venv, copy the lessons to my_lessons/ (or update your copies), and open them in JupyterLab
# make test     set up, then run the tests and check every lesson
# make train    set up, then train the mini model on Lakeland (ARGS="..." goes to the command)
# make lessons  execute the lessons again, in place
# make site     build the course as a static site in build/site/, to be read without installing anything
# make lint     look for slips with ruff
# make pins     write constraints.txt anew, with today's versions
# make clean    remove .venv and caches; data/, runs/ and my_lessons/ stay
#
# PYTHON=python3.12      the Python that .venv is made from (3.11 or newer; run `make clean` before you change it)
# TORCH_BACKEND=cpu      let uv take PyTorch's builds for that backend from PyTorch's own index (default: from PyPI)

.PHONY: lab test train lessons site lint pins clean

# Without PYTHON=...: python3 if it is new enough, else the newest of the others that runs.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PY := .venv/bin/python
PACKAGES := -c constraints.txt -e '.[lessons,dev]'

lab: .venv/ok
	@$(PY) -m minimaskformer lessons $(ARGS)

test: .venv/ok
	$(PY) -m pytest --nbval $(ARGS)

train: .venv/ok
	$(PY) -m minimaskformer train $(ARGS)

lessons: .venv/ok
	$(PY) tools/run_lessons.py $(ARGS)

site: .venv/ok
	@$(PY) -c 'import furo, mathjax, myst_nb' 2>/dev/null || $(PY) -m pip install -q -c constraints.txt -e '.[site]'
	$(PY) tools/build_site.py $(ARGS)

lint: .venv/ok
	$(PY) -m ruff check .

# uv installs in half of pip's time. Where it cannot (it does not read pip's settings), pip does the same work.
.venv/ok: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "minimaskformer needs Python 3.11 or newer, and $(or $(PYTHON),python3) is not one that runs here."; \
		echo "Install one, or name the one you have: make $(or $(MAKECMDGOALS),lab) PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Setting up .venv (once; about two minutes, and 6 GB on Linux) ..."
	@$(PY) -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv
	@{ $(PY) -m pip install -q --disable-pip-version-check uv && \
	   $(PY) -m uv pip install -q --python $(PY) --compile-bytecode \
	       $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) $(PACKAGES); } || \
	 { [ -z "$(TORCH_BACKEND)" ] && echo "uv did not manage; trying pip (about four minutes) ..." && \
	   $(PY) -m pip install --disable-pip-version-check $(PACKAGES); }
	@touch $@

pins: .venv/ok
	$(PY) -m uv pip compile -q --universal --all-extras --upgrade --no-header --no-annotate pyproject.toml -o constraints.txt

clean:
	rm -rf .venv .pytest_cache .ruff_cache build dist *.egg-info
	find . \( -path ./data -o -path ./runs -o -path ./my_lessons \) -prune -o \
		\( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
