"""Metrics of an answer's text against the accepted answers, as the SQuAD 2.0 evaluation script computes them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Two letters or digits of one word. Thai, Chinese and others put no spaces between words, so theirs don't count.
_LETTER = r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ud7ff\uf900-\ufaff\U0001b000-\U0003ffff]"
_INSIDE_A_WORD = re.compile(_LETTER * 2)


def normalize(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous spaces.

    >>> normalize("The  U.S.A., at an end")
    'usa at end'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def accepted_answers(answers: Sequence[str]) -> list[str]:
    """The accepted answers, normalized. Those that become empty are dropped, unless all do."""
    return [text for text in map(normalize, answers) if text] or [""]


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 if the answer is one of the accepted answers, else 0. All of them are normalized texts."""
    return float(answer in accepted)


def f1(answer: str, accepted: Sequence[str]) -> float:
    """The best F1 of the answer's words with those of an accepted answer. All of them are normalized texts."""
    return max(_f1(answer.split(), text.split()) for text in accepted)


def contains(answer: str, accepted: Sequence[str]) -> float:
    """1 if an accepted answer stands within the answer as whole words, else 0. All of them are normalized texts.

    >>> contains("in 1984", ["1984"]), contains("in 1984", ["198"])
    (1.0, 0.0)
    """
    return float(any(_stands_in(answer, text) for text in accepted if text))


def _f1(answer: list[str], accepted: list[str]) -> float:
    if not answer or not accepted:
        return float(answer == accepted)
    common = sum((Counter(answer) & Counter(accepted)).values())
    return 2 * common / (len(answer) + len(accepted))


def _stands_in(answer: str, text: str) -> bool:
    """Whether the text is in the answer, and neither begins nor ends inside a word."""
    start = answer.find(text)
    while start >= 0:
        ends = (start, start + len(text))
        if not any(end and _INSIDE_A_WORD.match(answer, end - 1) for end in ends):
            return True
        start = answer.find(text, start + 1)
    return False
