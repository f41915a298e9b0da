"""The baseline: one process that embeds lines 64 at a time, in their order, and upserts them into Chroma."""

import sys
from pathlib import Path
from urllib.parse import urlsplit

import chromadb
from sentence_transformers import SentenceTransformer


def main(corpus: str, model: str, url: str) -> None:
    """Index the lines of over 10 characters of the files in `corpus` into the server at `url`."""
    server = urlsplit(url)
    client = chromadb.HttpClient(server.hostname or "", server.port or 8000)
    collection = client.create_collection("loop", configuration={"hnsw": {"space": "cosine"}})
    encoder = SentenceTransformer(model, device="cpu")
    files = sorted(Path(corpus).iterdir())
    lines = [line.strip() for file in files for line in file.read_text("utf-8").split("\n")]
    lines = [line for line in lines if len(line) > 10]
    for start in range(0, len(lines), 64):
        texts = lines[start : start + 64]
        vectors = encoder.encode(texts, batch_size=64, show_progress_bar=False)
        collection.upsert([str(start + n) for n in range(len(texts))], embeddings=vectors, documents=texts)
    print(collection.count())


if __name__ == "__main__":
    main(*sys.argv[1:])
