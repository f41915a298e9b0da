"""Answer with the sentences of the passages that match the question best."""

import math
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tokenizers import Tokenizer

from ragjob.documents.sentences import one_line, quotable
from ragjob.engines.base import Completion, Failure, Request
from ragjob.models.tokenizer import count_tokens

if TYPE_CHECKING:
    from ragjob.models.embedder import Embedder

NO_ANSWER = "No passage answers this."
MAX_SENTENCES = 3
# What a sentence's score is the sum of, beside its cosine similarity to the question: the share of the question's words
# that it has, rare ones counting more, and its passage's score as a share of the best one's. Of 36 combinations, each
# with the margin that gives answers of 58 words on average, these hold the answer most often on 4,751 questions of
# SQuAD's training set.
WORDS, PASSAGE = 0.5, 3.5
# A further sentence is quoted when its score is this close to the best one's.
MARGIN = 0.44


class Candidate(NamedTuple):
    """A sentence of the passage `number`, counted from 1; `passage` is that passage's score as a share of the best."""

    text: str
    number: int
    passage: float
    similarity: float


class ExtractiveGenerator:
    """Quotes up to `MAX_SENTENCES` sentences, each with the number of its passage, counted from 1.

    `terms` returns the words of a text that are compared. The embedder is opened only for a request without sentences.
    """

    def __init__(
        self, open_embedder: "Callable[[], Embedder]", tokenizer: Tokenizer, terms: Callable[[str], list[str]]
    ) -> None:
        self._open_embedder = open_embedder
        self._tokenizer = tokenizer
        self._terms = terms

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        """Answer every request, in the order given."""
        by_request = list(map(list_sentences, requests))
        bare = [number for number, request in enumerate(requests) if request.sentences is None and by_request[number]]
        for number, compared in zip(
            bare, self._compared([(requests[n].question, by_request[n]) for n in bare]), strict=True
        ):
            by_request[number] = compared
        answers = [
            self._quote(request.question, candidates) for request, candidates in zip(requests, by_request, strict=True)
        ]
        return self._complete(requests, answers)

    @cached_property
    def _embedder(self) -> "Embedder":
        return self._open_embedder()

    def _compared(self, asked: list[tuple[str, list[Candidate]]]) -> list[list[Candidate]]:
        """The candidates of each question with their similarities to it."""
        if not asked:
            return []
        distinct = list(dict.fromkeys(candidate.text for _, candidates in asked for candidate in candidates))
        vectors = dict(zip(distinct, self._embedder.embed_documents(distinct), strict=True))
        questions = self._embedder.embed_queries([question for question, _ in asked])
        return [
            [candidate._replace(similarity=float(vectors[candidate.text] @ question)) for candidate in candidates]
            for (_, candidates), question in zip(asked, questions, strict=True)
        ]

    def _quote(self, question: str, candidates: list[Candidate]) -> str:
        """The best sentence and those nearly as good, in the order of the passages."""
        if not candidates:
            return NO_ANSWER
        shares = shared_words(self._terms(question), [self._terms(candidate.text) for candidate in candidates])
        scores = [
            candidate.similarity + WORDS * share + PASSAGE * candidate.passage
            for candidate, share in zip(candidates, shares, strict=True)
        ]
        best = sorted(range(len(scores)), key=lambda place: -scores[place])[:MAX_SENTENCES]
        close = sorted(place for place in best if scores[place] >= scores[best[0]] - MARGIN)
        return " ".join(f"{candidates[place].text} [{candidates[place].number}]" for place in close)

    def _complete(self, requests: list[Request], answers: list[str]) -> list[Completion | Failure]:
        prompt_tokens = count_tokens(self._tokenizer, [request.user for request in requests])
        answer_tokens = count_tokens(self._tokenizer, answers)
        return [
            Completion(answer, "stop", before, after)
            for answer, before, after in zip(answers, prompt_tokens, answer_tokens, strict=True)
        ]


def list_sentences(request: Request) -> list[Candidate]:
    """Each distinct sentence of the passages, in their order, with the number of the first that has it.

    If the index has sentences, those of a passage that has none there get the passage's similarity.
    """
    scores = request.scores or [1.0] * len(request.passages)
    best = max([0.0, *scores])
    candidates: dict[str, Candidate] = {}
    for number, passage in enumerate(request.passages, start=1):
        share = max(0.0, scores[number - 1]) / best if best else 0.0
        known = request.sentences[number - 1] if request.sentences else []
        alone = request.similarities[number - 1] if request.similarities else 0.0
        spans = [(one.start, one.end, one.similarity) for one in known] or [
            (*span, alone) for span in quotable(passage)
        ]
        for start, end, similarity in spans:
            text = one_line(passage[start:end])
            candidates.setdefault(text, Candidate(text, number, share, similarity))
    return list(candidates.values())


def shared_words(question: list[str], sentences: list[list[str]]) -> list[float]:
    """For each sentence, its share of the question's words that occur in any sentence; rare words count more.

    A word's weight is that of BM25 (Robertson and Zaragoza, 2009), the sentences being the collection.

    >>> shared_words(["depot", "track"], [["depot", "track"], ["depot"], ["tram"]])
    [1.0, 0.323..., 0.0]
    """
    having = [set(sentence) for sentence in sentences]
    counts = Counter(word for words in having for word in words & set(question))
    weights = {word: math.log(1 + (len(having) - count + 0.5) / (count + 0.5)) for word, count in counts.items()}
    total = sum(weights.values())
    return [sum(weights[word] for word in words & weights.keys()) / total if total else 0.0 for words in having]
