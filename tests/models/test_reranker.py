"""A reranker's scores, against those of the library by itself, with a random model."""

from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from ragjob.errors import SettingsError
from ragjob.models.reranker import Reranker

QUESTION = "How many tracks has the depot?"
PASSAGES = [
    "The depot has seven tracks. " * 20,
    "A ticket costs two crowns.",
    "Seven tracks lead to the depot in Net Street, and an eighth to the yard.",
    "The harbour.",
    "",
]


def tiny_cross_encoder(folder: Path, tokenizer: Tokenizer, labels: int = 1) -> str:
    """Save a random BERT that scores pairs, as a published cross-encoder is."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=0.5,  # so that scores differ by more than rounding
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    marks = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **marks).save_pretrained(folder)
    return str(folder)


def reranker(path: str) -> Reranker:
    return Reranker(path, dtype="float32", batch_size=2, threads=2, gpus=0)


def test_passages_are_scored_and_ordered_as_by_the_library(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tiny_cross_encoder(tmp_path, tokenizer)
    ranked = CrossEncoder(path, device="cpu").rank(QUESTION, PASSAGES)

    scores = reranker(path).score([(QUESTION, passage) for passage in PASSAGES])

    assert sorted(range(len(PASSAGES)), key=lambda place: -scores[place]) == [hit["corpus_id"] for hit in ranked]
    assert sorted(scores.tolist(), reverse=True) == pytest.approx([hit["score"] for hit in ranked], abs=1e-5)
    assert len(set(scores.tolist())) == len(PASSAGES)
    assert reranker(path).score([]).tolist() == []


def test_a_model_of_several_scores_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(SettingsError, match=r"^rerank.model: gives 3 scores per passage"):
        reranker(tiny_cross_encoder(tmp_path, tokenizer, labels=3))
