"""Where a reader of the docs types commands for a cluster."""

import os
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.documented import COMMANDS, filled, run
from tests.e2e.cluster import ROOT


@dataclass(frozen=True)
class Desk:
    """A folder with the checkout's `helm` and `k8s`, where the namespace is the current one."""

    folder: Path
    namespace: str
    variables: dict[str, str]

    @classmethod
    def of(cls, folder: Path, namespace: str, **variables: str) -> "Desk":
        for name in ("helm", "k8s"):
            (folder / name).symlink_to(ROOT / name)
        config = subprocess.run(["kubectl", "config", "view", "--raw"], capture_output=True, text=True, check=True)
        (folder / "kubeconfig").write_text(config.stdout)
        # An editor that changes nothing.
        desk = cls(folder, namespace, variables | {"KUBECONFIG": str(folder / "kubeconfig"), "KUBE_EDITOR": "true"})
        desk.type(f"kubectl config set-context --current --namespace {namespace}")
        return desk

    def find(self, pattern: str, **values: str) -> str:
        """The command of the docs that fits, for this namespace and with `values` for its placeholders."""
        (command,) = [command for command in COMMANDS if fnmatchcase(command, pattern)]
        return filled(command, {"NAMESPACE": self.namespace} | values)

    def type(self, command: str) -> str:
        """What a command prints. Fails the test when it fails."""
        ended = run(command, self.folder, **self.variables)
        assert ended.returncode == 0, f"{command}: {ended.stderr}{ended.stdout}"
        return ended.stdout

    def start(self, command: str) -> "subprocess.Popen[bytes]":
        """Start one that goes on until it is stopped."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = os.environ | self.variables
        return subprocess.Popen(["bash", "-ec", f"exec {command}"], cwd=self.folder, env=environment, **quiet)
