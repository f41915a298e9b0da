"""The page about kind: its commands after the cluster's making, as they stand."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import ROOT

PAGE = (ROOT / "docs/kind.md").read_text("utf-8")
COMMANDS = re.search(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)[1].splitlines()  # type: ignore[index]
CLUSTER = 4  # commands that make image, cluster and operator


@pytest.fixture(autouse=True)
def _clean(image: str) -> Iterator[None]:
    yield
    subprocess.run(["kubectl", "delete", "-k", ROOT / "k8s/kind", "--ignore-not-found", "--wait=false"], check=True)


def test_the_page_needs_no_more_than_eight_commands() -> None:
    assert len(COMMANDS) <= 8


def test_the_commands_lead_to_the_answers() -> None:
    script = "\n".join(COMMANDS[CLUSTER:])
    ran = subprocess.run(["bash", "-ec", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("sample/corpus") >= 30
