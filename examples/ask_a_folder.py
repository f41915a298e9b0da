"""Ask questions about a folder of documents, and print each answer with its sources.

    python examples/ask_a_folder.py FOLDER "How wide is the gauge?" "Who founded the line?"

The index and the answers go to the folder `ask-a-folder`. Ask again, and only the new questions take time.
"""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from ragjob import JobSettings, Progress, RagjobError, run

WORK = Path("ask-a-folder")


def main(folder: str, questions: list[str]) -> None:
    WORK.mkdir(exist_ok=True)
    prompts = WORK / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in questions), "utf-8")
    uris = {"corpus": folder, "prompts": prompts, "index": WORK / "index", "output": WORK / "answers"}
    settings = JobSettings.model_validate({section: {"uri": str(uri)} for section, uri in uris.items()})
    report = run(settings, show)
    for row in pq.read_table(report.answers).to_pylist():
        print(f"\n{row['prompt']}\n  {row['answer'] or row['error']}")
        for number, (uri, score) in enumerate(zip(row["retrieved_uris"], row["retrieved_scores"], strict=True), 1):
            print(f"  [{number}] {uri} ({score:.2f})")


def show(progress: Progress) -> None:
    """Print what the job does; called several times a second."""
    where = f"{progress.flow}: {progress.stage}, {progress.share:.0%}" if progress.flow else progress.stage
    print(f"\r{where:<60}", end="", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except RagjobError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(error.exit_code)
