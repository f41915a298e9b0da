"""The job with everything on S3: the same rows as from disks, whatever S3 answers, or one line that says why not."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from ragjob.errors import DataError, DependencyError
from tests.faults import Fault, forget, proxy, refuse, reset
from tests.integration.conftest import SAMPLE, S3Job, assert_same, make_job
from tests.services import BESIDE, S3Server

END_S = 500.0
DEPENDENCY, DATA = DependencyError.exit_code, DataError.exit_code
SHARED = BESIDE.parents[1] / "data"
WRITES = "^(PUT|POST) .*/out/"


@pytest.fixture
def strict(s3_server: S3Server) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto takes any credentials and regions")


def assert_refused_at_once(job: S3Job, code: int, *words: str, **settings: object) -> None:
    """`run` ends with one line that holds `words`, before a model or Ray is loaded and anything written."""
    ended = job.light("run", **settings)
    assert (ended.code, len(ended.err.splitlines())) == (code, 1), ended.err
    assert [word for word in words if word not in ended.err] == [], ended.err
    assert ended.heavy == set()
    assert [name for name in job.outputs() if "/_log/" not in name] == []


@pytest.mark.parametrize(
    ("status", "code", "on", "words"),
    [
        (403, "AccessDenied", WRITES, ["output.uri", "access is denied", "allow", "s3:PutObject"]),
        (403, "AccessDenied", "list-type", ["access is denied", "allow", "s3:ListBucket"]),
        (400, "ExpiredToken", "", ["expired", "renew"]),
        (403, "RequestTimeTooSkewed", "", ["clock", "set"]),
        (301, "PermanentRedirect", "", ["another region", "s3.region"]),
    ],
)
def test_a_refusal_ends_with_3_and_names_the_bucket_and_the_remedy(
    s3_job: S3Job, status: int, code: str, on: str, words: list[str]
) -> None:
    with proxy(s3_job.bucket.server.endpoint, Fault(refuse(status, code), on=on)) as faulty:
        assert_refused_at_once(s3_job, DEPENDENCY, s3_job.bucket.name, *words, s3__endpoint_url=faulty.url)


def test_a_server_that_ignores_the_condition_ends_with_3(s3_job: S3Job) -> None:
    server = s3_job.bucket.server
    with proxy(server.endpoint, Fault(forget("If-None-Match", server))) as faulty:
        words = "output.uri", s3_job.bucket.name, "If-None-Match", "use a server"
        assert_refused_at_once(s3_job, DEPENDENCY, *words, s3__endpoint_url=faulty.url)


def test_a_bucket_that_isnt_there_ends_with_3(s3_job: S3Job) -> None:
    words = "no-such-bucket", "there is no bucket", "correct the address"
    assert_refused_at_once(s3_job, DEPENDENCY, "output.uri", *words, output__uri="s3://no-such-bucket/out")
    assert_refused_at_once(s3_job, DEPENDENCY, "index.uri", *words, index__uri="s3://no-such-bucket/index")
    assert_refused_at_once(s3_job, DEPENDENCY, "prompts.uri", *words, prompts__uri="s3://no-such-bucket/prompts")


@pytest.mark.usefixtures("strict")
def test_another_region_ends_with_3(s3_job: S3Job) -> None:
    words = "corpus.uri", s3_job.bucket.name, "another region", "s3.region"
    assert_refused_at_once(s3_job, DEPENDENCY, *words, s3__region="eu-west-1")


@pytest.mark.usefixtures("strict")
def test_a_wrong_key_ends_with_3(s3_job: S3Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
    assert_refused_at_once(s3_job, DEPENDENCY, "corpus.uri", s3_job.bucket.name, "refused", "AWS_SECRET_ACCESS_KEY")


@pytest.mark.usefixtures("strict")
def test_no_key_at_all_ends_with_3(s3_job: S3Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert_refused_at_once(s3_job, DEPENDENCY, "corpus.uri", s3_job.bucket.name, "no AWS credentials")


def test_an_object_that_isnt_there_ends_with_4(s3_job: S3Job) -> None:
    missing = f"{s3_job.bucket.uri}/nowhere.jsonl"
    assert_refused_at_once(s3_job, DATA, "prompts.uri", missing, prompts__uri=missing)


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.services
@pytest.mark.timeout(580)
def test_a_run_on_s3_gives_the_rows_of_a_run_on_disk(s3_job: S3Job, undisturbed: pa.Table) -> None:
    ended = s3_job("run")
    assert (ended.code, ended.err) == (0, "")
    assert_same(s3_job.answers(), undisturbed)
    assert [name.split("/")[1] for name in s3_job.outputs()] == ["_log", "_manifest.json", "answers.parquet"]


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.services
@pytest.mark.timeout(580)
def test_every_10th_answer_a_503_and_every_50th_a_reset_lose_and_double_nothing(s3_job: S3Job, index: Path) -> None:
    prompts = [{"prompt": f"{SAMPLE[n % len(SAMPLE)]['prompt']} ({n})", "number": n} for n in range(1000)]
    s3_job.bucket.write("prompts.jsonl", "\n".join(map(json.dumps, prompts)).encode())
    s3_job.bucket.fill("index", index)
    faults = Fault(reset(), every=50), Fault(refuse(503, "SlowDown"), every=10)
    with proxy(s3_job.bucket.server.endpoint, *faults) as faulty:
        ended = s3_job.end(s3_job.start("answer", s3__endpoint_url=faulty.url, commit_rows=16), END_S)
    assert (ended.code, ended.err) == (0, "")
    assert s3_job.answers()["number"].to_pylist() == list(range(1000))
    assert s3_job.answers()["error"].null_count == 1000
    assert (s3_job.staged, s3_job.bucket.uploads()) == ([], [])
    assert [fault.done > 2 for fault in faults] == [True, True]


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.services
@pytest.mark.timeout(580)
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}")
def test_23_prompts_on_a_book_wholly_on_s3_give_the_rows_of_a_run_on_disk(s3_job: S3Job, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    here = make_job(tmp_path / "here")
    there = {}
    for section, name in (("corpus", "around.txt"), ("prompts", "prompts.parquet")):
        here.assignments[f"{section}.uri"] = SHARED / name
        there[f"{section}__uri"] = s3_job.bucket.write(name, (SHARED / name).read_bytes())
    ends = [here("run"), s3_job.end(s3_job.start("run", **there), END_S)]
    assert [(ended.code, ended.err) for ended in ends] == [(0, ""), (0, "")]
    assert s3_job.answers().num_rows == 23
    assert_same(s3_job.answers(), here.answers())
