"""The chart agrees with settings, pinned versions and manifests, and its examples suit `ragjob plan`."""

import re
from pathlib import Path

import pytest
import yaml

from helm import render as made
from ragjob.config import JobSettings, load_settings
from ragjob.planning import packing as fit
from ragjob.planning.memory import actor_bytes, check_memory
from ragjob.runtime.cluster import resources
from tests.chart.rendering import CHART, EXAMPLES, ROOT, example, head_env, helm, needs_helm
from tests.engines.shapes import MINILM, QWEN_05B, QWEN_7B, engine_of, listed


def test_the_schema_of_config_is_the_settings_own() -> None:
    assert made.SCHEMA.read_text("utf-8") == made.schema(), "run `make manifests`"


def test_the_pools_in_the_values_are_the_settings_defaults() -> None:
    pools = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["config"]
    assert pools == {name: {"pool": fit.pool(JobSettings(), name).model_dump(exclude_none=True)} for name in pools}


def test_the_ray_version_is_the_pinned_one() -> None:
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    assert pinned
    assert f"rayVersion: {pinned[1]}\n" in (CHART / "templates/_spec.tpl").read_text("utf-8")


@needs_helm
@pytest.mark.parametrize("overlay", ["base", "kind"])
def test_the_manifests_are_the_rendered_chart(overlay: str) -> None:
    assert (ROOT / "k8s" / overlay / "ragjob.yaml").read_text("utf-8") == made.manifests(overlay), (
        "run `make manifests`"
    )


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_passes_lint(name: str) -> None:
    linted = helm("lint", "--strict", CHART, "--values", CHART / "examples" / f"{name}.yaml")
    assert linted.returncode == 0, linted.stdout


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_settings_that_plan_finds_room_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = example(name)
    file = tmp_path / "job.yaml"
    file.write_text(documents["ConfigMap"]["data"]["job.yaml"])
    monkeypatch.setenv("RAGJOB__CLUSTER__GROUPS", head_env(documents)["RAGJOB__CLUSTER__GROUPS"])
    settings = load_settings(file, [])
    size = resources(settings.cluster)
    assert "run" in documents["RayJob"]["spec"]["entrypoint"]
    assert fit.check_pools(settings, ["index", "answer"], size)
    for model in (QWEN_05B, QWEN_7B):
        actors = actor_bytes(listed(MINILM), [engine_of(settings, listed(model))])
        assert check_memory(settings, ["index", "answer"], size, actors, 0, MINILM.width)
