import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ragjob.ledger import schema

PARTS = st.lists(st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=2), max_size=2), max_size=3)


@given(PARTS, PARTS)
def test_parts_have_one_digest_just_when_they_are_equal(one: list[object], other: list[object]) -> None:
    assert (schema.digest(*one) == schema.digest(*other)) == (one == other)


def test_digests_stay_the_same_since_storage_holds_them() -> None:
    assert schema.digest("bylaws.md", 3, "No dogs on trams.") == "df9f8e40e42b05e1b5296ce3"


def test_a_digest_follows_from_what_a_dict_holds_not_from_its_order() -> None:
    assert schema.digest({"size": 200, "overlap": 20}) == schema.digest({"overlap": 20, "size": 200})


def test_equal_passages_of_two_documents_are_two_chunks() -> None:
    ids = schema.chunk_ids("one.md", range(2), ["a", "a"]) + schema.chunk_ids("other.md", range(2), ["a", "a"])
    assert len(set(ids)) == 4


@given(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_a_chunks_id_is_the_digest_of_document_index_and_text(document: str, texts: list[str]) -> None:
    ids = schema.chunk_ids(document, range(len(texts)), texts)
    assert ids == [schema.digest(document, index, text) for index, text in enumerate(texts)]


def test_answers_have_the_designs_columns_in_its_order() -> None:
    passed = pa.schema([("source", pa.string()), ("year", pa.int64())])
    assert schema.answers(passed).names == [
        "prompt_id",
        "prompt",
        "source",
        "year",
        "answer",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "retrieved_ids",
        "retrieved_document_ids",
        "retrieved_uris",
        "retrieved_titles",
        "retrieved_pages",
        "retrieved_metadata",
        "retrieved_texts",
        "retrieved_scores",
        "retrieved_similarities",
        "retrieved_equals",
        "citations",
        "error",
        "embed_model",
        "generate_model",
        "index_version",
        "run_id",
    ]


def test_no_answer_column_is_free_for_passing_through() -> None:
    assert schema.RESERVED.issuperset(schema.answers(pa.schema([])).names)
