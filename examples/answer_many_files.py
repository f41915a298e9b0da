"""Answer several files of prompts from one index, one run each, and go on when one of them fails.

    python examples/answer_many_files.py job.yaml monday.jsonl tuesday.jsonl

`job.yaml` names the index and where the answers go. A file that was answered before costs a second.
"""

import sys
from pathlib import Path

from ragjob import DataError, RagjobError, TooManyFailures, answer, load_settings


def main(config: str, files: list[str]) -> int:
    worst = 0
    for file in files:
        settings = load_settings(Path(config), [f"prompts.uri={file}"])
        try:
            report = answer(settings)
        except (DataError, TooManyFailures) as error:  # in this file: the others may be fine
            print(f"{file}: {error}")
            worst = error.exit_code
        else:
            state = "was answered before" if report.already_done else "is answered"
            print(f"{file} {state}: {report.rows} prompts, {report.errors} errors, {report.answers}")
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except RagjobError as error:  # storage, Chroma or a model can't be used: the other files would fail, too
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
