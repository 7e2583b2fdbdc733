# Everything runs in .venv, made from constraints.txt by the first command that needs it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# `make test-oldest` takes the oldest Python of the robots where there is one.
OLDEST_PYTHON ?= $(shell for python in python3.10 $(PYTHON); do "$$python" -V >/dev/null 2>&1 && echo "$$python" && break; done)
OLDEST := .venv-oldest

OPENVINO := .venv-openvino

.PHONY: setup demo test test-oldest test-openvino docs clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --disable-pip-version-check --quiet \
		--editable ".[all,dev]"
	touch $@

demo: setup
	$(BIN)/python -m benchmarks.demo --out runs/demo

# A core each, since a tiny network needs no more. The tests of a file share what they make.
PYTEST := python -m pytest -n logical --maxprocesses 4 --dist loadfile

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/$(PYTEST)

# The runtime alone, without torch, on the oldest versions that pyproject.toml allows.
test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/$(PYTEST) tests/runtime runtime

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	PIP_CONSTRAINT=constraints-oldest.txt $(OLDEST)/bin/pip install --disable-pip-version-check --quiet \
		--editable . onnx pytest pytest-xdist
	touch $@

# onnxruntime-openvino provides the module onnxruntime too, so it has an environment of its own.
test-openvino: $(OPENVINO)/.installed
	$(OPENVINO)/bin/python -m pytest tests/runtime/network/test_openvino.py tests/runtime/network/test_session.py

$(OPENVINO)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OPENVINO)
	PIP_CONSTRAINT=constraints.txt $(OPENVINO)/bin/pip install --disable-pip-version-check --quiet \
		numpy opencv-python-headless onnxruntime-openvino onnx pytest
	touch $@

# The pages under docs/ as a site in build/site; a broken link or reference fails.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.docs: $(VENV)/.installed
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --disable-pip-version-check --quiet \
		--editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(OPENVINO) build *.egg-info .mypy_cache .ruff_cache
