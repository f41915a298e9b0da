"""Nothing that a job reads in confidence is said, logged, or shown to the machine's other users."""

import json
import signal
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import psutil
import pytest

from ragjob.errors import DependencyError, TooManyFailures
from tests.integration.conftest import S3Job, descendants, make_s3_job, wait_until
from tests.services import Bucket

VARIABLES = {
    "AWS_SESSION_TOKEN": "canary-session-token",
    "HF_TOKEN": "canary-hub-token",
    "OPENAI_API_KEY": "canary-api-key",
    "HTTPS_PROXY": "http://me:canary-proxy-password@127.0.0.1:9",
    "HTTP_PROXY": "http://me:canary-proxy-password@127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}
TEXT = "canary-in-the-corpus"
HIDDEN = ["canary-", "Bearer ", "AWS4-HMAC", "X-Amz-"]


class Api(BaseHTTPRequestHandler):
    """An API that answers the check alone, and else gives away the key that it was sent."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = {"error": {"message": f"refused: {self.headers['Authorization'].removeprefix('Bearer ')}"}}
        message = {"role": "assistant", "content": "Hello"}
        answered = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        content = json.dumps(answered if asked["max_tokens"] == 1 else refused).encode()
        self.send_response(200 if asked["max_tokens"] == 1 else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray's files are: a short path, for the names of its sockets."""
    with TemporaryDirectory(prefix="ray-") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


@pytest.fixture
def job(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Job:
    """A small job that has all there is to give away."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    job = make_s3_job(bucket, tmp_path, prompts=4)
    bucket.write("small/depot.md", f"# Depot\n\nThe depot holds forty cars, says {TEXT}.".encode())
    return S3Job(job.folder, job.assignments | {"corpus.uri": f"{bucket.uri}/small"}, bucket=bucket)


def given_away(job: S3Job, texts: str) -> list[str]:
    """The secrets that are in `texts`."""
    return [
        secret for secret in [*HIDDEN, job.bucket.server.access_key, job.bucket.server.secret_key] if secret in texts
    ]


def is_running(processes: list[psutil.Process], program: str) -> bool:
    return any(program in " ".join(command_line(process)) for process in processes)


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []


def follow(process: "subprocess.Popen[str]") -> tuple[str, psutil.Process]:
    """The command lines of all that a job starts until its Ray is down, and the guard, held back: Ray's files stay."""
    lines: set[str] = set()

    def look() -> list[psutil.Process]:
        children = descendants(process)
        lines.update(" ".join(command_line(child)) for child in children)
        return children

    wait_until(lambda: is_running(look(), "guard.py"))
    (guard,) = [child for child in descendants(process) if is_running([child], "guard.py")]
    guard.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_running(look(), "raylet"))
    wait_until(lambda: not is_running(look(), "raylet"), seconds=480)
    return "\n".join(lines), guard


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_run_whose_prompts_all_fail_gives_nothing_away(job: S3Job, api: str, folder: Path) -> None:
    settings = {"generate__engine": "openai", "generate__model": "m", "generate__openai__base_url": api}
    settings |= {"retrieve__sentences": False}
    process = job.start("run", **settings)
    lines, guard = follow(process)
    files = [file.read_text("utf-8", "replace") for file in folder.rglob("*") if file.is_file()]
    guard.send_signal(signal.SIGCONT)
    ended = job.end(process)
    assert ended.code == TooManyFailures.exit_code, ended.err
    assert "refused: ***" in ended.err
    kept = [key for key in job.bucket.keys("") if key.endswith((".json", ".jsonl")) and not key.startswith("prompts")]
    assert (len(files) > 10, len(kept) > 3, list(folder.iterdir())) == (True, True, [])
    stored = "".join(job.bucket.read(key).decode() for key in kept)
    searched = {"said": ended.out + ended.err, "kept": stored, "ray": "".join(files), "processes": lines}
    assert {place: secrets for place, texts in searched.items() if (secrets := given_away(job, texts))} == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"embed__model": "org/model"},
        {"generate__engine": "openai", "generate__model": "m", "generate__openai__base_url": "https://api.invalid/v1"},
        {"s3__endpoint_url": "http://s3.invalid", "s3__timeout_s": 2},
        {"chroma__url": "http://me:canary-chroma-password@chroma.invalid:8000", "chroma__timeout_s": 1},
        {"output__uri": "https://me:canary-password@host/out"},
    ],
    ids=["hub", "api", "s3", "chroma", "address"],
)
@pytest.mark.timeout(200)
def test_a_job_that_gets_no_further_than_its_plan_gives_nothing_away(job: S3Job, settings: dict[str, object]) -> None:
    quick = {"generate__openai__timeout_s": 1} if "generate__engine" in settings else {}
    ended = job.light("run", **settings, **quick)
    assert (ended.code in (2, DependencyError.exit_code), len(ended.err.splitlines())) == (True, 1), ended.err
    kept = "".join(job.bucket.read(key).decode() for key in job.bucket.keys("out/"))
    assert given_away(job, ended.out + ended.err + kept) == []
