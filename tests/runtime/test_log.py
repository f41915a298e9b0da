import json
import logging
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from ragjob.errors import DataError, Defect
from ragjob.runtime.log import AttemptLog

log = logging.getLogger("ragjob.somewhere")


def kept(folder: Path) -> list[dict[str, Any]]:
    """The events in the one log below `folder`."""
    (file,) = folder.iterdir()
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def run(folder: Path, error: BaseException) -> None:
    with AttemptLog(str(folder)):
        log.info("started")
        raise error


def test_what_the_job_logs_is_kept_as_json_lines(tmp_path: Path) -> None:
    with AttemptLog(str(tmp_path)):
        log.info("stage", extra={"stage": "embed", "rows": 3, "seconds": 1.26})
        log.warning("später")
    assert [{key: value for key, value in event.items() if key != "time"} for event in kept(tmp_path)] == [
        {"level": "info", "event": "stage", "stage": "embed", "rows": 3, "seconds": 1.3},
        {"level": "warning", "event": "später"},
    ]


@pytest.mark.parametrize(
    ("error", "event", "code"),
    [
        (DataError("corpus.uri: gone"), "corpus.uri: gone", 4),
        (KeyboardInterrupt(), "stopped", 130),
        (ValueError("what"), "ValueError: what", 1),
        (Defect("Traceback\n  in a worker\nTypeError: what"), "TypeError: what", 1),
    ],
)
def test_the_log_of_a_failed_attempt_ends_with_its_error_and_exit_code(
    tmp_path: Path, error: BaseException, event: str, code: int
) -> None:
    with pytest.raises(type(error)):
        run(tmp_path, error)
    (_, last) = kept(tmp_path)
    assert (last["level"], last["event"], last["exit_code"]) == ("error", event, code)


def test_the_log_of_an_attempt_that_met_a_bug_has_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^what$"):
        run(tmp_path / "here", ValueError("what"))
    with pytest.raises(Defect):
        run(tmp_path / "in a worker", Defect("Traceback\n  in a worker\nTypeError: what"))
    assert re.search(r'test_log.py", line \d+, in run\n    raise error\n', kept(tmp_path / "here")[-1]["traceback"])
    assert kept(tmp_path / "in a worker")[-1]["traceback"] == "Traceback\n  in a worker\nTypeError: what"


def test_a_log_is_named_by_its_attempts_start_and_process(tmp_path: Path) -> None:
    with AttemptLog(str(tmp_path)):
        log.info("started")
    (file,) = tmp_path.iterdir()
    place = re.escape(f"{socket.gethostname()}-{os.getpid()}")
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}Z-{place}\.jsonl", file.name)


def test_a_log_is_kept_now_and_then_for_the_case_of_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragjob.runtime.log.KEEP_S", 0)
    with AttemptLog(str(tmp_path)):
        log.info("started")
        assert [event["event"] for event in kept(tmp_path)] == ["started"]


def test_a_log_isnt_written_for_every_line(tmp_path: Path) -> None:
    with AttemptLog(str(tmp_path)):
        log.info("started")
        assert list(tmp_path.iterdir()) == []


def test_a_log_that_cant_be_written_ends_no_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with AttemptLog(str(tmp_path / "file" / "_log")):
        log.info("started")
    assert (tmp_path / "file").read_text() == ""


def test_a_log_that_cant_be_written_hides_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^corpus.uri: gone$"):
        run(tmp_path / "file" / "_log", DataError("corpus.uri: gone"))


def test_what_is_logged_after_an_attempt_isnt_in_its_log(tmp_path: Path) -> None:
    before = logging.getLogger("ragjob").level
    with AttemptLog(str(tmp_path)):
        log.info("started")
    log.info("late")
    assert [event["event"] for event in kept(tmp_path)] == ["started"]
    assert logging.getLogger("ragjob").level == before


def test_text_that_isnt_unicode_is_kept_as_far_as_it_goes(tmp_path: Path) -> None:
    with AttemptLog(str(tmp_path)) as attempt:  # given to it alone: no reporter of the tests could print that
        attempt.emit(logging.makeLogRecord({"msg": "file \udcff"}))
    assert [event["event"] for event in kept(tmp_path)] == ["file ?"]
