"""The `vllm` engine in whole runs, with vLLM itself on a tiny random-weight Qwen2."""

import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.fakes import tiny_qwen2
from tests.integration.conftest import Job, descendants, make_job, wait_for_end, wait_until

pytest.importorskip("vllm", reason="vLLM isn't installed: make venv-vllm", exc_type=ImportError)
pytestmark = [pytest.mark.vllm, pytest.mark.ray, pytest.mark.services, pytest.mark.timeout(600)]

DATA = Path(__file__).parents[3] / "shared" / "data"
SETTINGS = {
    "generate__engine": "vllm",
    "generate__max_new_tokens": 48,
    "generate__dtype": "float32",
    "generate__vllm__kv_cache_memory_bytes": 1 << 28,
    "generate__vllm__max_num_seqs": 4,
    "augment__max_context_tokens": 300,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen2(tmp_path_factory.mktemp("model"))


def engines(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The actors that hold vLLM: they have its library loaded."""
    return [child for child in descendants(process) if "vllm/_C" in Path(f"/proc/{child.pid}/maps").read_text()]


def assert_complete(job: Job, rows: int) -> None:
    answers = job.answers()
    assert (answers.num_rows, answers["error"].null_count) == (rows, rows)
    assert set(Counter(answers["prompt_id"].to_pylist()).values()) == {1}


@pytest.mark.soak
def test_a_run_whose_engine_is_killed_answers_each_prompt_once_and_tells_what_the_prefix_cache_saved(
    job: Job, index: Path, model: Path
) -> None:
    process = job.start("answer", index__uri=index, generate__model=model, **SETTINGS)
    wait_until(lambda: len(job.staged) >= 2, 400)
    (engine,) = engines(process)
    engine.send_signal(signal.SIGKILL)
    ended = job.end(process)
    assert (ended.code, ended.err) == (0, "")
    assert_complete(job, 48)
    assert job.answers()["number"].to_pylist() == list(range(48))
    assert int(re.findall(r"prompt tokens found in the prefix cache: (\d+)%", ended.out)[0]) > 0


@pytest.mark.soak
def test_an_engine_that_dies_every_time_ends_the_run_with_its_reason_and_keeps_what_is_answered(
    job: Job, index: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"index__uri": index, "generate__max_engine_restarts": 1, "generate__model": model} | SETTINGS
    (job.folder / "sitecustomize.py").write_text(DYING)  # Python runs it as it starts, in the actors too
    monkeypatch.setenv("PYTHONPATH", str(job.folder))
    process = job.start("answer", **more)
    wait_until(lambda: job.staged)
    (job.folder / "die").touch()
    ended = job.end(process)
    assert ended.code == 3
    assert re.fullmatch(r"ragjob: Ray: the worker .* vLLM died of RuntimeError: injected; see .*\n", ended.err)
    (job.folder / "die").unlink()
    kept = 4 * len(job.staged)
    again = job("answer", **more)
    assert f"{kept} of them kept" in again.out
    assert_complete(job, 48)


# Lets vLLM's engine fail at each step while there is a file `die` in the folder of the job.
DYING = """
import sys
from pathlib import Path

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "ragjob.engines.vllm.generator":
            sys.meta_path.remove(self)
            from vllm.v1.engine.llm_engine import LLMEngine
            step = LLMEngine.step
            LLMEngine.step = lambda self: fail() if die.exists() else step(self)

def fail():
    raise RuntimeError("injected")

die = Path(__file__).with_name("die")
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.soak
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the book and its prompts in ../shared/data")
@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed"])
def test_23_questions_about_a_book_are_answered(tmp_path: Path, model: Path, killed: bool) -> None:
    job = make_job(tmp_path)
    uris = {"corpus__uri": DATA / "around.txt", "prompts__uri": DATA / "prompts.parquet"}
    process = job.start("run", chunk__strategy="line", generate__model=model, **uris, **SETTINGS)
    if killed:
        wait_until(lambda: job.staged, 400)
        family = engines(process)
        family[0].send_signal(signal.SIGKILL)
        wait_for_end(family)
    ended = job.end(process, 500)
    assert (ended.code, ended.err) == (0, "")
    assert_complete(job, 23)
