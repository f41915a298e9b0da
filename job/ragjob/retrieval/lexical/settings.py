"""Settings of the modes that search words."""

from typing import Literal

from ragjob.retrieval.lexical.languages import LANGUAGES
from ragjob.retrieval.settings import Retrieval
from ragjob.settings import Decides, setting

NO_LANGUAGE = "none"


# Of a worker: a passage's share of the terms, and its scores for the questions of four blocks at once.
CHUNK_BYTES = 200


class LexicalRetrieval(Retrieval):
    language: Literal[(*LANGUAGES, NO_LANGUAGE)] = setting(  # type: ignore[valid-type]
        "en",
        decides=Decides.RUN,
        description="language of the corpus, by which its words are stemmed and the commonest left out of the lexical "
        f"index; {NO_LANGUAGE} for another",
    )
