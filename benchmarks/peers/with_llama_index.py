"""A peer: LlamaIndex indexes a text file into a Chroma server, a node a line, all by its defaults."""

import sys
from pathlib import Path
from urllib.parse import urlsplit

import chromadb
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.chroma import ChromaVectorStore


def main(corpus: str, model: str, url: str) -> None:
    """Index the lines of `corpus` with the model in a folder."""
    server = urlsplit(url)
    client = chromadb.HttpClient(server.hostname or "", server.port or 8000)
    store = ChromaVectorStore(chroma_collection=client.create_collection("peer"))
    lines = Path(corpus).read_text("utf-8").split("\n")
    VectorStoreIndex(
        # Its default would embed the source before each line.
        [TextNode(text=line, metadata={"source": corpus}, excluded_embed_metadata_keys=["source"]) for line in lines],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=HuggingFaceEmbedding(model_name=model, device="cpu"),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
