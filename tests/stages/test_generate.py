import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from job import schema
from job.config import Embed, Generate, GeneratePool
from job.errors import DataError
from job.models.folder import find_folder
from job.stages.generate import KEEP_MEMORY, GenerateStage, blocks_at_once, environment, make
from tests.fakes import POISON, REFUSED, EchoGenerator, tiny_qwen2

# Prints the page faults of the last of 20 blocks of 64 MB, 16,384 pages, that another thread than the first one frees.
FREE_BLOCKS = """
from concurrent.futures import ThreadPoolExecutor
from resource import RUSAGE_SELF, getrusage

import numpy as np

def faults():
    before = getrusage(RUSAGE_SELF).ru_minflt
    np.ones(2**23)
    return getrusage(RUSAGE_SELF).ru_minflt - before

with ThreadPoolExecutor(1) as other:
    print([other.submit(faults).result() for _ in range(20)][-1])
"""


def generate(*questions: str, errors: list[str | None] | None = None) -> pa.Table:
    columns = {
        "prompt": questions,
        "error": pa.array(errors or [None] * len(questions), pa.string()),
        "retrieved_texts": [[f"about {question}"] for question in questions],
        "_augmented": [f"asked: {question}" for question in questions],
    }
    return GenerateStage(EchoGenerator(), "system")(pa.table(columns))


def test_each_prompt_gets_the_answer_to_its_message_question_and_passages() -> None:
    rows = generate("a", "b")
    assert rows["answer"].to_pylist() == ["system|asked: a|a|['about a']", "system|asked: b|b|['about b']"]


def test_a_completions_columns_are_added_and_the_message_dropped() -> None:
    rows = generate("a")
    assert rows.schema.names == ["prompt", "error", "retrieved_texts", *schema.GENERATED.names, "_cached_tokens"]
    assert rows.select(schema.GENERATED.names).schema == schema.GENERATED
    assert rows.select(["finish_reason", "prompt_tokens", "completion_tokens"]).to_pylist() == [
        {"finish_reason": "stop", "prompt_tokens": 8, "completion_tokens": 1}
    ]


def test_a_prompt_that_the_model_fails_on_is_an_error_while_its_neighbours_stay() -> None:
    rows = generate("a", POISON, "c", "d", errors=[None, None, None, "prompt is blank"])
    assert rows["error"].to_pylist() == [None, "RuntimeError: the prompt is too long", None, "prompt is blank"]
    assert rows["answer"].to_pylist() == ["system|asked: a|a|['about a']", None, "system|asked: c|c|['about c']", None]


def test_a_prompt_that_the_engine_refuses_is_an_error_and_computed_once() -> None:
    rows = generate("a", REFUSED, "c")
    assert rows["error"].to_pylist() == [None, "not that", None]
    assert rows["answer"].to_pylist() == ["system|asked: a|a|['about a']", None, "system|asked: c|c|['about c']"]


@pytest.mark.parametrize(
    ("settings", "rows", "blocks"),
    [
        (Generate(), 256, 1),
        (Generate(engine="transformers"), 256, 1),
        (Generate(engine="vllm"), 256, 2),
        (Generate(engine="vllm", vllm={"max_num_seqs": 1000}), 256, 5),
        (Generate(engine="openai"), 256, 2),
        (Generate(engine="openai"), 10, 5),
    ],
)
def test_an_engine_that_batches_by_itself_has_the_next_block_before_it_runs_empty(
    settings: Generate, rows: int, blocks: int
) -> None:
    assert blocks_at_once(settings, rows) == blocks


def test_a_model_that_cant_be_loaded_is_named_with_its_setting(tmp_path: Path) -> None:
    config = json.loads((tiny_qwen2(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of", "architectures": []}))
    model, settings = find_folder(str(tmp_path), "generate.model"), Generate(engine="transformers")
    with pytest.raises(DataError, match=rf"^generate.model: {tmp_path} can't be loaded \([^\n]*name another model$"):
        make(settings, "system", Embed(), model, "float32", threads=1)


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_processes_that_compute_on_a_processor_keep_their_memory(engine: str) -> None:
    assert environment(Generate(engine=engine)) == KEEP_MEMORY
    assert environment(Generate(engine=engine, pool=GeneratePool(num_gpus=0.5))) == {}


@pytest.mark.parametrize("engine", ["extractive", "openai"])
def test_engines_that_hold_no_causal_lm_need_no_environment(engine: str) -> None:
    assert environment(Generate(engine=engine)) == {}


def test_memory_that_a_batch_frees_is_kept_for_the_next() -> None:
    program = [sys.executable, "-c", FREE_BLOCKS]
    found = subprocess.run(program, env=os.environ | KEEP_MEMORY, capture_output=True, text=True, check=True)
    assert int(found.stdout) < 1000
