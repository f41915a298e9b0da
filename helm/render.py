"""Write what is made from the settings and the chart: values.schema.json's `config`, and the manifests in k8s/.

`make manifests` runs it; tests/chart/test_agreement.py compares. Needs helm on PATH, or in HELM.
"""

import json
import os
import subprocess
from pathlib import Path

from ragjob.config import JobSettings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm/ragjob"
SCHEMA = CHART / "values.schema.json"
HELM = os.environ.get("HELM", "helm")


def schema() -> str:
    """The chart's schema, with the settings' own as its `config`."""
    settings = JobSettings.model_json_schema()
    chart_schema = json.loads(SCHEMA.read_text("utf-8"))
    chart_schema["$defs"] = settings.pop("$defs")
    chart_schema["properties"]["config"] = settings
    return json.dumps(chart_schema, indent=2, ensure_ascii=False) + "\n"


def manifests(overlay: str) -> str:
    """The chart with the values of k8s/`overlay`."""
    values = ROOT / "k8s" / overlay / "values.yaml"
    command = [HELM, "template", "ragjob", str(CHART), "--values", str(values)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    SCHEMA.write_text(schema(), "utf-8")
    for overlay in ("base", "kind"):
        (ROOT / "k8s" / overlay / "ragjob.yaml").write_text(manifests(overlay), "utf-8")


if __name__ == "__main__":
    main()
