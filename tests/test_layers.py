"""The rooms of the code: the one direction of imports, what stays light, and what is known outside its own package."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ragjob
from ragjob.documents.readers import DOCUMENTS, PROMPTS
from ragjob.engines import ENGINES, Generation
from ragjob.retrieval import MODES

ROOT = Path(ragjob.__file__).parent
# From the top: a module imports those of its own level and of lower ones. A package stands for its modules.
LEVELS = [
    {"__main__"},
    {"cli"},
    {"__init__", "commands", "kubernetes"},
    {"planning"},
    {"runtime"},
    {"config"},
    {"evaluation", "stages"},
    {"documents", "engines"},
    {"ledger", "models", "retrieval"},
    {"storage"},
    {"errors", "settings"},
]
LEVEL_OF = {name: number for number, level in enumerate(LEVELS) for name in level}
ONLY_IMPORTERS = {
    "torch": {"models", "engines"},
    "transformers": {"models", "engines"},
    "sentence_transformers": {"models"},
    "vllm": {"engines"},
    "tokenizers": {"models", "engines", "stages", "documents"},
    "regex": {"documents", "retrieval"},
    "markdown_it": {"documents"},
    "bm25s": {"retrieval"},
    "Stemmer": {"retrieval"},
    "chromadb": {"retrieval"},
    "ray": {"runtime"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "pyarrow.fs": {"storage"},
    "scipy": {"evaluation"},
    "pypdfium2": {"documents"},
    "pypdf": {"documents"},
    "resiliparse": {"documents"},
    "docx": {"documents"},
    "pptx": {"documents"},
    "python_calamine": {"documents"},
    "lxml": {"documents"},
    "huggingface_hub": {"models"},
    "openai": {"engines"},
    "kubernetes": {"kubernetes"},
    "typer": {"cli"},
    "rich": {"cli"},
}
FILES = sorted(ROOT.rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 350, 45  # in lines
MOST_ENTRIES, MOST_PAIRS = 20, 80  # of the package's first level, and of those of them that import one another


def unit(file: Path) -> str:
    """The module right below `ragjob`, or the package, that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imports(file: Path) -> set[str]:
    """Full names of all that a file imports, in functions too: `from a import b` is `a` and `a.b`."""
    nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return (
        plain | {str(node.module) for node in froms} | {f"{node.module}.{a.name}" for node in froms for a in node.names}
    )


def units_of(file: Path) -> set[str]:
    """The units of `ragjob` that a file imports."""
    inside = {name.split(".")[1] for name in imports(file) if name.startswith("ragjob.")}
    return inside & LEVEL_OF.keys()


PAIRS = {(unit(file), other) for file in FILES for other in units_of(file) if unit(file) != other}


def test_every_module_has_its_level() -> None:
    assert {unit(file) for file in FILES} == LEVEL_OF.keys()


def test_no_import_is_relative() -> None:
    nodes = [node for file in FILES for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    assert [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level] == []


def test_no_module_imports_one_of_a_level_above_its_own() -> None:
    assert [(low, high) for low, high in sorted(PAIRS) if LEVEL_OF[high] < LEVEL_OF[low]] == []


def test_imports_between_the_rooms_run_in_no_circle() -> None:
    left = set(PAIRS)
    while ends := {low for _, low in left} - {high for high, _ in left}:
        left = {(high, low) for high, low in left if low not in ends}
    assert left == set()


def test_the_first_level_is_small_and_its_rooms_have_few_doors() -> None:
    entries = [entry for entry in ROOT.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES
    assert len(PAIRS) < MOST_PAIRS


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    importers = {
        unit(file) for file in FILES for name in imports(file) if name == library or name.startswith(f"{library}.")
    }
    assert importers <= ONLY_IMPORTERS[library]


def test_modules_and_functions_fit_in_the_head() -> None:
    texts = {file: file.read_text("utf-8") for file in FILES}
    functions = [
        (node.name, node.end_lineno - node.lineno + 1)
        for text in texts.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    assert [file.name for file, text in texts.items() if text.count("\n") > LONGEST_MODULE] == []
    assert [function for function in functions if function[1] > LONGEST_FUNCTION] == []


# What is known of a capability stands in its package


def looked_up(file: Path) -> Iterator[str]:
    """The strings that a file compares something with, looks up, or asks a text to begin or end with."""
    asking = {"startswith", "endswith", "removesuffix", "removeprefix", "get", "fnmatch", "match"}
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        match node:
            case ast.Compare() | ast.MatchValue() | ast.Subscript():
                parts: list[ast.AST] = [node]
            case ast.Dict(keys=keys):
                parts = [key for key in keys if key]
            case ast.Call(func=ast.Attribute(attr=name), args=arguments) if name in asking:
                parts = [*arguments]
            case _:
                continue
        inner = [child for part in parts for child in ast.walk(part)]
        yield from (child.value for child in inner if isinstance(child, ast.Constant) and isinstance(child.value, str))


def home(capability: type) -> str:
    """The path below the package of the module or package that a capability stands in."""
    return capability.__module__.removeprefix("ragjob.").replace(".", "/")


def places(names: set[str], home: str) -> list[tuple[str, str]]:
    """Where one of `names` is looked up outside the package `home`."""
    outside = [file for file in FILES if not file.relative_to(ROOT).as_posix().startswith(home)]
    return [(file.name, name) for file in outside for name in looked_up(file) if name in names]


def test_no_engine_is_looked_up_by_its_name_outside_its_package() -> None:
    assert [place for name, engine in ENGINES.items() for place in places({name}, home(engine))] == []


def test_no_mode_of_retrieval_is_looked_up_by_its_name_outside_its_module() -> None:
    assert [place for name, mode in MODES.items() for place in places({name}, home(mode))] == []


@pytest.mark.parametrize("name", ENGINES)
def test_no_setting_of_one_engine_is_named_outside_its_package(name: str) -> None:
    keys = [f"generate.{key}" for key in ENGINES[name].Settings.model_fields.keys() - Generation.model_fields.keys()]
    outside = [file for file in FILES if home(ENGINES[name]) not in file.as_posix()]
    assert [(file.name, key) for file in outside for key in keys if key in file.read_text("utf-8")] == []


def test_no_suffix_of_a_file_is_tested_outside_the_readers() -> None:
    assert places({*DOCUMENTS, *PROMPTS}, "documents/readers/") == []


# What stays light


def test_import_of_the_commands_loads_no_heavy_library() -> None:
    code = "import sys, ragjob, ragjob.config, ragjob.cli.main, ragjob.cli.commands; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "transformers", "ray", "chromadb", "pyarrow", "vllm", "openai", "boto3", "ragjob.commands.api"}
    assert heavy & set(loaded) == set()


def seconds(*command: object) -> float:
    """The fewest seconds of a processor that a command took in a few trials: waiting for one isn't counted."""

    def once() -> float:
        before = os.times()
        subprocess.run(list(map(str, command)), capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    return min(once() for _ in range(5))


def test_help_takes_little_more_than_the_libraries_that_print_it() -> None:
    """A third of a second where that was written. Seconds alone would tell of the machine."""
    printing = seconds(sys.executable, "-c", "import typer.rich_utils")
    assert seconds(Path(sys.executable).with_name("ragjob"), "--help") < 2 * printing
