"""Text to measure with, made of the sample corpus."""

from random import Random

from ragjob.cli.sample import CORPUS


def passages(rows: int) -> list[str]:
    """`rows` passages of 1 to 8 sentences, no two alike, the same at every call."""
    lines = [line for file in sorted(CORPUS.glob("*.md")) for line in file.read_text("utf-8").split("\n")]
    sentences = [sentence for line in lines if line[:1].isalnum() for sentence in line.rstrip(".").split(". ")]
    chance = Random(0)
    chosen = (chance.choices(sentences, k=chance.randint(1, 8)) for _ in range(rows))
    return [f"{number}. {'. '.join(some)}." for number, some in enumerate(chosen, 1)]
