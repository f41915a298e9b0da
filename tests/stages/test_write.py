from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ragjob.ledger import schema
from ragjob.ledger.run import RunLedger
from ragjob.ledger.segment import SegmentLedger
from ragjob.stages.write import WriteAnswers, WriteChunks


def test_chunks_are_staged_and_their_errors_handed_on(tmp_path: Path) -> None:
    segment = SegmentLedger(str(tmp_path), "s1")
    rows = [
        {"chunk_id": "1", "document_id": "a", "text": "fine", "embedding": [1, 0]},
        {"chunk_id": "2", "document_id": "b", "error": "too long"},
    ]
    chunks = pa.Table.from_pylist(rows, pa.schema([*schema.CHUNKS, *schema.embedded(2)]))
    assert WriteChunks(segment)(chunks).to_pydict() == {"error": [None, "too long"]}
    assert segment.done() == {"a"}


def test_answers_are_staged_with_what_they_came_from(tmp_path: Path) -> None:
    run = RunLedger(str(tmp_path), "r1", "identity")
    columns = schema.answers(pa.schema([("topic", pa.string())]))
    fields = [
        schema.POSITION,
        "prompt_id",
        "prompt",
        "error",
        *schema.RETRIEVED.names,
        *schema.GENERATED.names,
        *schema.CITED.names,
        "topic",
    ]
    known = pa.schema([(schema.POSITION, pa.int64()), *columns])
    rows = [
        {"_position": 0, "prompt_id": "1", "prompt": "why?", "answer": "because", "topic": "trams"},
        {"_position": 1, "prompt_id": "2", "error": "prompt is null"},
    ]
    prompts = pa.Table.from_pylist(rows, pa.schema([known.field(name) for name in fields]))
    receipt = WriteAnswers(
        run, columns, dict(zip(schema.PROVENANCE.names, ["minilm@1", "qwen@2", "v1", "r1"], strict=True))
    )(prompts)
    run.publish(2, columns)
    staged = pq.read_table(run.answers)
    assert receipt.to_pydict() == {"error": [None, "prompt is null"]}
    assert staged.schema.remove_metadata() == columns
    assert staged.select(["answer", "topic", *schema.PROVENANCE.names]).to_pylist()[0] == {
        "answer": "because",
        "topic": "trams",
        "embed_model": "minilm@1",
        "generate_model": "qwen@2",
        "index_version": "v1",
        "run_id": "r1",
    }
