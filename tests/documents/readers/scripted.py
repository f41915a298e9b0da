"""A format whose documents do anything. Its module is as light as one of a format must be."""

import os
import signal
import sys
import time
from pathlib import Path

from ragjob.documents.readers.document import Document, Limits, Unreadable
from ragjob.documents.readers.parsed import ParsedReader


class Python(ParsedReader):
    """Documents that are Python, and say what they hold."""

    def parse(self, content: bytes, limits: Limits) -> Document:
        names = {"os": os, "signal": signal, "sys": sys, "time": time, "Path": Path, "Unreadable": Unreadable}
        exec(content, names)
        return Document(str(names.get("text")))
