"""What a plan says of the filter in `retrieve.where`."""

from pathlib import Path

from ragjob.commands.answer import Answer
from ragjob.commands.registry import Command
from ragjob.commands.run import Run
from ragjob.errors import DataError
from ragjob.planning.checks import Failed
from tests.planning.jobs import Settings, check_lines, commit, failed


def filter_error(command: Command) -> str:
    """What the check of the filter says that won't do."""
    [line] = [check.line for check in command.plan().checks if isinstance(check, Failed) and check.name == "filter"]
    return line


def test_a_plan_says_the_filter_and_what_is_known_only_later(settings: Settings) -> None:
    columns = {"corpus__metadata_columns": '["body"]'}
    sure = Run.of(settings(retrieve__where='{"body": "{asked}", "size": [41, null]}', **columns))
    unsure = Run.of(settings(retrieve__where='{"author": "Ada"}', **columns))
    assert check_lines(sure)["filter"] == "passages whose body is {asked}, size is 41 or null"
    assert check_lines(unsure)["filter"] == (
        'passages whose author is "Ada"; whether documents have author is known once they are read'
    )
    assert "filter" not in check_lines(Run.of(settings()))


def test_metadata_that_isnt_there_is_named_with_what_is(settings: Settings, tmp_path: Path) -> None:
    rows = {"corpus__uri": tmp_path / "corpus" / "fares.csv", "corpus__metadata_columns": '["body"]'}
    pending = Run.of(settings(retrieve__where='{"owner": 1}', **rows))
    assert failed(pending)["filter"] is DataError
    assert filter_error(pending).startswith("retrieve.where: no metadata 'owner' in the corpus, which has body; ")
    version = commit(settings())
    committed = Answer.of(settings(retrieve__where='{"owner": 1}'))
    assert filter_error(committed).startswith(
        f"retrieve.where: no metadata 'owner' in index version {version}, which has none; "
    )


def test_a_filter_by_a_column_that_the_prompts_lack_is_refused(settings: Settings) -> None:
    run = Run.of(settings(retrieve__where='{"path": "{tenant}"}'))
    assert failed(run)["filter"] is DataError
    assert filter_error(run) == (
        "retrieve.where: no column 'tenant' passes through from the prompts (those that do: asked, id); "
        "add the column to the prompts, or correct the filter"
    )
