"""A peer: LangChain indexes a text file into a Chroma server, a document a line, all by its defaults."""

import sys
from pathlib import Path
from urllib.parse import urlsplit

import chromadb
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_huggingface import HuggingFaceEmbeddings


def main(corpus: str, model: str, url: str) -> None:
    """Index the lines of `corpus` with the model in a folder."""
    server = urlsplit(url)
    lines = Path(corpus).read_text("utf-8").split("\n")
    Chroma.from_documents(
        [Document(line, metadata={"source": corpus}) for line in lines],
        HuggingFaceEmbeddings(model_name=model, model_kwargs={"device": "cpu"}),
        client=chromadb.HttpClient(server.hostname or "", server.port or 8000),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
