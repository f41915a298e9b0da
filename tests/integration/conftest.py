"""Jobs run as a user runs them: the `ragjob` command, in a process group of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob.cli.sample import CORPUS, PROMPTS
from tests.conftest import files_below
from tests.forks import Ended, Light, ragjob
from tests.services import Bucket

TOKEN = "a-session-token"  # a server without temporary credentials ignores it
PROMPTS_OF_A_JOB = 48
LONG = '{"prompt": "%s"}' % ("long " * 1_000_000)
BAD_ROWS = [b'{"prompt": null}', b'{"prompt": "  "}', LONG.encode(), b'{"prompt": "\xff\xfe"}']
README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
OWN_DATA = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)[0]
SAMPLE = [json.loads(line) for line in PROMPTS.read_text("utf-8").splitlines()]


@dataclass(frozen=True)
class Job:
    """A job in a folder of its own: the sample's corpus, `prompts` variations of its prompts."""

    folder: Path
    assignments: dict[str, object]
    said: list[str] = field(default_factory=list)

    def arguments(self, command: str, **more: object) -> list[str]:
        """What follows `ragjob` on the command line; `more` names settings with `__` for the dot."""
        settings = self.assignments | {key.replace("__", "."): value for key, value in more.items()}
        return [command, *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))]

    def start(self, command: str, **more: object) -> "subprocess.Popen[str]":
        """Start it as the leader of a process group."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        line = [sys.executable, "-m", "ragjob", *self.arguments(command, **more)]
        return subprocess.Popen(line, text=True, start_new_session=True, cwd=self.folder, **pipes)

    def __call__(self, command: str, **more: object) -> Ended:
        """Run it to its end."""
        return self.end(self.start(command, **more))

    def light(self, command: str, **more: object) -> Light:
        """Run one that starts nothing to its end, and tell what it has imported."""
        ended = ragjob(*self.arguments(command, **more), folder=self.folder)
        self.said.append(ended.out + ended.err)
        return ended

    def end(self, process: "subprocess.Popen[str]", timeout_s: float = 480) -> Ended:
        """Wait for the end of what was started."""
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise
        self.said.append(out + err)
        return Ended(process.returncode, out, err)

    @property
    def staged(self) -> list[Path]:
        """Parts that are staged now."""
        return list((self.folder / "out").glob("_staging/*/part-*"))

    def outputs(self) -> list[str]:
        """Paths of all that is below `output.uri`."""
        return files_below(self.folder / "out")

    def answers(self) -> pa.Table:
        """The one published file of answers, read as any reader would."""
        (file,) = (self.folder / "out").glob("*/answers.parquet")
        return pq.read_table(file)


@dataclass(frozen=True)
class S3Job(Job):
    """The same, with all that it reads and writes in a bucket."""

    bucket: Bucket = field(kw_only=True)

    @property
    def staged(self) -> list[Path]:
        return [Path(key) for key in self.bucket.keys("out/_staging/") if "/part-" in key]

    def outputs(self) -> list[str]:
        return [key.removeprefix("out/") for key in self.bucket.keys("out/")]

    def answers(self) -> pa.Table:
        (key,) = [key for key in self.bucket.keys("out/") if key.endswith("/answers.parquet")]
        return pq.read_table(pa.BufferReader(self.bucket.read(key)))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, shared_ray: str) -> Job:
    """A whole run that met no trouble but four rows that fail, by README's commands for one's own data."""
    job = make_job(tmp_path_factory.mktemp("done"))
    folder = job.folder
    job.assignments.update({"corpus.uri": folder / "corpus", "chroma.path": folder / "chroma"})
    (folder / "corpus").symlink_to(CORPUS)
    with (folder / "prompts.jsonl").open("ab") as prompts:
        prompts.writelines(b"\n" + line for line in BAD_ROWS)
    settings = {f"RAGJOB__{key.upper().replace('.', '__')}": str(value) for key, value in job.assignments.items()}
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_ADDRESS": shared_ray}
    ran = subprocess.run(
        ["bash", "-ec", OWN_DATA],
        cwd=folder,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    job.said.append(ran.stdout)
    return job


@pytest.fixture(scope="session")
def index(done: Job) -> Path:
    """An index of the sample that is there already, for `answer`."""
    return done.folder / "index"


@pytest.fixture(scope="session")
def undisturbed(done: Job) -> pa.Table:
    """Answers of a job that met no trouble."""
    return done.answers().slice(0, PROMPTS_OF_A_JOB)


@pytest.fixture
def s3_job(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Job]:
    """A job in a bucket, which gives no key away in what it says or writes."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    job = make_s3_job(bucket, tmp_path)
    yield job
    said = "".join(job.said)
    written = b"".join(map(bucket.read, bucket.keys())).decode(errors="replace")
    secrets = [bucket.server.access_key, bucket.server.secret_key, TOKEN, "X-Amz-", "AWS4-HMAC"]
    assert said
    assert [secret for secret in secrets if secret in said + written] == []


def make_job(folder: Path, prompts: int = PROMPTS_OF_A_JOB) -> Job:
    """A job whose answers come in parts of 4, and whose vectors come out alike on every machine."""
    rows = [{"prompt": f"{SAMPLE[n % len(SAMPLE)]['prompt']} ({n})", "number": n} for n in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    uris = {"corpus": CORPUS, "prompts": folder / "prompts.jsonl", "index": folder / "index", "output": folder / "out"}
    settings: dict[str, object] = {f"{key}.uri": value for key, value in uris.items()}
    return Job(folder, settings | {"commit_rows": 4, "embed.dtype": "float32"})


def make_s3_job(bucket: Bucket, folder: Path, prompts: int = PROMPTS_OF_A_JOB) -> S3Job:
    """The same job with all that it reads and writes in a bucket; `folder` is where it runs."""
    job = make_job(folder, prompts)
    bucket.write("prompts.jsonl", (folder / "prompts.jsonl").read_bytes())
    bucket.fill("corpus", CORPUS)
    names = {"corpus": "corpus", "prompts": "prompts.jsonl", "index": "index", "output": "out"}
    uris = {f"{section}.uri": f"{bucket.uri}/{name}" for section, name in names.items()}
    return S3Job(folder, job.assignments | uris | bucket.server.settings, bucket=bucket)


def assert_same(answers: pa.Table, expected: pa.Table) -> None:
    same = ["prompt_id", "prompt", "answer", "retrieved_ids", "retrieved_texts", "error"]
    assert answers.select(same).equals(expected.select(same))
    scores = [table["retrieved_scores"].combine_chunks().flatten().to_pylist() for table in (answers, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def kill_group(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to the whole process group, as a terminal that is closed, or a pod's end, does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def wait_until(true: Callable[[], object], seconds: float = 200) -> None:
    """Wait for something to happen. Fails the test when it doesn't."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """All processes below `process`."""
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of `processes` that still run; one that only waits for its parent to notice doesn't."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def wait_for_end(processes: list[psutil.Process], seconds: float = 20) -> None:
    """Wait for all of `processes` to end. Fails the test with the command lines of those that don't."""
    psutil.wait_procs(processes, timeout=seconds)
    assert [" ".join(process.cmdline()) for process in alive(processes)] == []
