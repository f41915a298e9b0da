"""Engines around models that can't be had here: known by their listing and config alone, as a plan knows them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ragjob.config import JobSettings
from ragjob.engines import ENGINES, Engine, Generation
from ragjob.engines.base import Surroundings
from ragjob.engines.causal_lm import CausalLMEngine
from ragjob.models.capacity import HALF, Model
from ragjob.models.files import Source

# From their configs and listings on the hub.
MINILM = Model(weights=90_868_376, layers=6, width=384)
QWEN_05B = Model(weights=988_097_824, layers=24, width=896, kv_token=12_288)
QWEN_7B = Model(weights=15_231_233_024, layers=28, width=3584, kv_token=57_344)


@dataclass(frozen=True)
class ListedFiles:
    """The files of a model that is only listed."""

    config: str
    weights: int

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"config.json": len(self.config), "model.safetensors": self.weights}

    def read(self, path: str) -> bytes:
        return self.config.encode()

    def fetch(self) -> str:
        raise AssertionError("a plan downloads nothing")


def listed(model: Model, key: str = "generate.model", **config: object) -> Source:
    """A model of that shape; `config` overrides what its config says."""
    shape: dict[str, Any] = {"num_hidden_layers": model.layers, "hidden_size": model.width}
    if model.kv_token:
        shape |= {"num_attention_heads": 1, "head_dim": model.kv_token // (2 * model.layers * HALF)}
    return Source(key, "model", "1", ListedFiles(json.dumps(shape | config), model.weights))


def engine_of(settings: JobSettings, model: Source, embedder: Source | None = None) -> Engine[Generation]:
    """The engine of these settings, around `model` if it holds one."""
    kind = ENGINES[settings.generate.engine]
    around = Surroundings(
        settings.embed,
        embedder or listed(MINILM, "embed.model"),
        settings.augment.max_context_tokens,
        settings.cluster.gpu_memory_gb(settings.generate.pool),
        settings.models.cache,
    )
    if issubclass(kind, CausalLMEngine):
        return kind(settings.generate, around, model)
    return kind(settings.generate, around)


def given(**assigned: Any) -> JobSettings:
    """Settings with these values, by key with `__` for the dot."""
    tree: dict[str, Any] = {}
    for key, value in assigned.items():
        node, (*sections, name) = tree, key.split("__")
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return JobSettings(**tree)
