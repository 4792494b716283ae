# Every target sets up what it needs. PYTHON names the interpreter that .venv is made with (3.10 or newer).
PYTHON ?= python3
BIN := .venv/bin
# What is never imported is never compiled. Silenced: setuptools warns of every editable install.
INSTALL := install --quiet --disable-pip-version-check --no-compile
PIP := PYTHONWARNINGS=ignore $(BIN)/pip $(INSTALL)
# Many tests wait for servers and processes: three at once keep two cores busy, more would crowd them. A worker that
# dies ends the run and says in which test: with another in its place pytest-xdist (3.8) may wait for ever.
IN_PARALLEL := --numprocesses 3 --dist loadfile --max-worker-restart 0
# Threads of torch that wait for work sleep, and leave the cores to the tests beside them.
test test-oldest: export OMP_WAIT_POLICY := PASSIVE
# NVRTC, where pip brought it, is not where the loader looks.
ON_GPU = LD_LIBRARY_PATH="$$(find .venv-gpu -name 'libnvrtc.so.1*' -printf '%h:' -quit)$$LD_LIBRARY_PATH" .venv-gpu/bin/python
TEST_PACKAGES := espeak-ng faketime g++ mosquitto openssl pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins systemd

# The oldest Python that devices have, where one is installed: edge_asd's own tests run under it too.
PYTHON_OLDEST ?= $(shell for python in python3.10 $(PYENV_ROOT)/versions/3.10*/bin/python3.10; do \
  "$$python" -c 'import ensurepip' 2>/dev/null && { echo "$$python"; break; }; done)

.PHONY: help demo test test-oldest test-slow test-gpu bench-gpu gpu-kit pycuda-kit check bench package clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: .venv/.device ## two motors and an enrolled machine, healthy and then damaged: alarms on MQTT, and a report
	$(BIN)/python -m examples.demo

# While pip fetches torch, the tests that need none run under the oldest Python.
test: ## all fast tests; installs Mosquitto and PulseAudio where it may
	@$(MAKE) --no-print-directory --jobs 2 .venv/.workstation .venv/.system-test .venv/.tensorrt-kit $(if $(PYTHON_OLDEST),test-oldest)
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-oldest: .venv-oldest/.device .venv/.system-test ## the device part's tests under Python 3.10
	.venv-oldest/bin/python -m pytest $(IN_PARALLEL) tests/edge_asd

test-slow: .venv/.workstation .venv/.system-test ## the long tests
	$(BIN)/python -m pytest -m slow --timeout 1800

test-gpu: gpu-kit ## the tests that need an NVIDIA GPU; what they lack besides its driver is fetched
	$(ON_GPU) -m pytest -m gpu --timeout 1800 -rs tests/edge_asd/gpu

bench-gpu: gpu-kit ## latency figures of this machine's GPU; beside torch, where it is installed for CUDA
	$(ON_GPU) -m benchmarks.latency --gpu

check: .venv/.workstation ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy edge_asd train export benchmarks examples
	$(BIN)/lint-imports

bench: .venv/.workstation ## latency and daemon figures of this machine
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.daemon

package: .venv/.device ## the wheel of the device part, and an archive that a device is installed from, in dist/
	$(PIP) 'build>=1.2,<2'
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .
	sh firmware_configs/systemd/pack.sh dist/*.whl dist

clean: ## remove .venv and build products
	rm -rf .venv .venv-oldest .venv-gpu build dist *.egg-info

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); expected Python 3.10 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  sh .ci/install-packages.sh "python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip

# The device part: no torch. The example runs on it.
.venv/.device: setup.cfg pyproject.toml | .venv/bin/pip
	$(PIP) --editable '.[openvino,onnxruntime,demo]'
	@touch $@

# The workstation part on top: training, export, tests, checks.
.venv/.workstation: .venv/.device
	$(PIP) --editable '.[train,export,test,check]'
	@touch $@

.venv-oldest/.device: setup.cfg pyproject.toml
	$(PYTHON_OLDEST) -m venv .venv-oldest
	PYTHONWARNINGS=ignore .venv-oldest/bin/pip $(INSTALL) --upgrade pip
	PYTHONWARNINGS=ignore .venv-oldest/bin/pip $(INSTALL) --editable '.[openvino,onnxruntime,test]'
	@touch $@

# The system's packages are seen: on a Jetson TensorRT and torch are JetPack's.
.venv-gpu/.ready: setup.cfg pyproject.toml tests/gpu_kit/prepare.py
	$(PYTHON) -m venv --system-site-packages .venv-gpu
	PYTHONWARNINGS=ignore .venv-gpu/bin/pip $(INSTALL) --upgrade pip
	PYTHONWARNINGS=ignore .venv-gpu/bin/pip $(INSTALL) --editable '.[onnxruntime,export,test]'
	@touch $@

gpu-kit: .venv-gpu/.ready
	@$(ON_GPU) tests/gpu_kit/prepare.py || echo "tests that need it will skip" >&2

# NVIDIA's Python bindings, builder and compiler for tests without a GPU. Where the wheels cannot be had, these skip.
.venv/.tensorrt-kit: tests/tensorrt_kit/prepare.py | .venv/bin/pip .venv/.system-test
	@$(BIN)/python tests/tensorrt_kit/prepare.py .venv/tensorrt-kit || echo "tests of TensorRT's bindings will skip" >&2
	@touch $@

# pycuda for its test without a GPU. Built on request alone: compiling it takes minutes.
pycuda-kit: .venv/.workstation .venv/.system-test ## pycuda built without a GPU, so that make test runs the engine through it too
	$(BIN)/python tests/pycuda_kit/prepare.py .venv/pycuda-kit

# Real servers for the tests. Tests whose server is missing skip and say so.
.venv/.system-test: | .venv/bin/pip
	@sh .ci/install-packages.sh $(TEST_PACKAGES) || echo "tests that need them will skip" >&2
	@touch $@
