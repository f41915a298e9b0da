"""Answer with the sentences of the passages that match the question best: no weights but the embedder's."""

import numpy as np
import sentencex
from tokenizers import Tokenizer

from ragjob.engines.base import Completion, Failure, Request
from ragjob.models.embedder import Embedder, Vectors
from ragjob.models.tokenizer import count_tokens

NO_ANSWER = "No passage answers this."
MAX_SENTENCES = 3
MIN_WORDS = 3
# A further sentence is quoted when its cosine similarity is this close to the best one's.
MARGIN = 0.1


class ExtractiveGenerator:
    """Quotes up to `MAX_SENTENCES` sentences, each with the number of its passage, counted from 1."""

    def __init__(self, embedder: Embedder, tokenizer: Tokenizer) -> None:
        self._embedder = embedder
        self._tokenizer = tokenizer

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        """Answer every request, in the order given."""
        sources = [number_sentences(request.passages) for request in requests]
        distinct = list(dict.fromkeys(sentence for source in sources for sentence in source))
        vectors = dict(zip(distinct, self._embedder.embed_documents(distinct), strict=True))
        questions = self._embedder.embed_queries([request.question for request in requests])
        answers = [
            quote_best(source, np.array([vectors[sentence] for sentence in source]) @ question) if source else NO_ANSWER
            for source, question in zip(sources, questions, strict=True)
        ]
        return self._complete(requests, answers)

    def _complete(self, requests: list[Request], answers: list[str]) -> list[Completion | Failure]:
        prompt_tokens = count_tokens(self._tokenizer, [request.user for request in requests])
        answer_tokens = count_tokens(self._tokenizer, answers)
        return [
            Completion(answer, "stop", before, after)
            for answer, before, after in zip(answers, prompt_tokens, answer_tokens, strict=True)
        ]


def number_sentences(passages: list[str]) -> dict[str, int]:
    """Each distinct sentence of the passages, in their order, with the number of the first that has it."""
    numbers: dict[str, int] = {}
    for number, passage in enumerate(passages, start=1):
        for sentence in split_sentences(passage):
            numbers.setdefault(sentence, number)
    return numbers


def split_sentences(text: str) -> list[str]:
    """Sentences of at least `MIN_WORDS` words on one line each, headings (lines with a #) left out.

    >>> split_sentences("# Depots\\nThe depot has\\nseven tracks. Why? It stands in Net Street.")
    ['The depot has seven tracks.', 'It stands in Net Street.']
    """
    lines = (line.split() for line in text.splitlines() if not line.lstrip().startswith("#"))
    body = "\n".join(" ".join(words) for words in lines)  # sentencex panics at some wider spaces
    sentences = [sentence.split() for sentence in sentencex.segment("en", body)]
    return [" ".join(words) for words in sentences if len(words) >= MIN_WORDS]


def quote_best(sentences: dict[str, int], scores: Vectors) -> str:
    """The best sentence and those nearly as good, in the order of `sentences`; `scores` is float [len]."""
    best = np.argsort(-scores, kind="stable")[:MAX_SENTENCES]
    close = sorted(best[scores[best] >= scores[best[0]] - MARGIN])
    numbered = list(sentences.items())
    return " ".join(f"{numbered[row][0]} [{numbered[row][1]}]" for row in close)
