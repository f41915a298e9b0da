"""Have a language model judge the answers of a run by the passages that the index has for question and answer.

    python examples/judge_answers.py job.yaml answers/3f2a61c09b7d44e1/answers.parquet

`job.yaml` names the index and, under `generate`, the model that judges; a larger one than the one that answered judges
better. Its `retrieve.where` can't name columns of the prompts. Judging is a separate run, in the folder `judged`: it
can be stopped and resumed, and running it again costs a second. Read some verdicts yourself before you rely on them.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from ragjob import RagjobError, answer, load_settings

PROMPTS, OUTPUT = Path("judged.jsonl"), Path("judged")
SYSTEM = "You check answers. Reply with one word: yes if the passages support the answer to the question, no if not."
TEMPLATE = "Passages:\n{context}\n\n{prompt}\nDo the passages support this answer? Reply yes or no."


def main(config: str, answers: str) -> None:
    """Print how many answers the model finds supported, and the questions of those that it doesn't."""
    rows = pq.read_table(answers, columns=["prompt_id", "prompt", "answer"]).to_pylist()
    answered = {row["prompt_id"]: row for row in rows if row["answer"]}
    asked = "".join(
        json.dumps({"prompt_id": prompt_id, "prompt": f"Question: {row['prompt']}\nAnswer: {row['answer']}"}) + "\n"
        for prompt_id, row in answered.items()
    )
    if not PROMPTS.exists() or PROMPTS.read_text("utf-8") != asked:  # a file that is written anew makes another run
        PROMPTS.write_text(asked, "utf-8")
    settings = {
        "prompts.uri": PROMPTS,
        "prompts.prompt_column": "prompt",
        "prompts.id_column": "prompt_id",
        "output.uri": OUTPUT,
        "run_id": "null",
        "augment.system": SYSTEM,
        "augment.template": TEMPLATE,
        "generate.max_new_tokens": 4,
    }
    report = answer(load_settings(Path(config), [f"{key}={value}" for key, value in settings.items()]))
    verdicts = {row["prompt_id"]: verdict(row["answer"]) for row in pq.read_table(report.answers).to_pylist()}
    counts = Counter(verdicts.values())
    print(
        f"{counts['yes']} of {len(verdicts)} answers are supported, {counts['no']} are not, {counts['?']} are unclear"
    )
    for prompt_id in sorted(prompt_id for prompt_id, said in verdicts.items() if said == "no"):
        print(f"  not supported: {answered[prompt_id]['prompt']}")


def verdict(text: str | None) -> str:
    """What a reply says: yes, no or ?.

    >>> [verdict(reply) for reply in ("Yes.", " no, since", "The answer", None)]
    ['yes', 'no', '?', '?']
    """
    word = (text or "").strip().lower()
    return next((said for said in ("yes", "no") if word.startswith(said)), "?")


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except RagjobError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
