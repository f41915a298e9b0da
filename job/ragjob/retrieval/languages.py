"""Languages that the lexical index knows, by ISO 639 code: how words are stemmed, and which are left out."""

from typing import NamedTuple


class Language(NamedTuple):
    """Snowball's name of its algorithm, and the name of a list in `bm25s.stopwords`, where there is one."""

    algorithm: str
    stop_words: str | None = None


LANGUAGES = {
    "en": Language("english", "STOPWORDS_EN_PLUS"),
    "ar": Language("arabic"),
    "ca": Language("catalan"),
    "cs": Language("czech"),
    "da": Language("danish", "STOPWORDS_DANISH"),
    "de": Language("german", "STOPWORDS_GERMAN"),
    "el": Language("greek"),
    "es": Language("spanish", "STOPWORDS_SPANISH"),
    "et": Language("estonian"),
    "eu": Language("basque"),
    "fa": Language("persian"),
    "fi": Language("finnish"),
    "fr": Language("french", "STOPWORDS_FRENCH"),
    "ga": Language("irish"),
    "hi": Language("hindi"),
    "hu": Language("hungarian"),
    "hy": Language("armenian"),
    "id": Language("indonesian"),
    "it": Language("italian", "STOPWORDS_ITALIAN"),
    "lt": Language("lithuanian"),
    "ne": Language("nepali"),
    "nl": Language("dutch", "STOPWORDS_DUTCH"),
    "no": Language("norwegian", "STOPWORDS_NORWEGIAN"),
    "pl": Language("polish"),
    "pt": Language("portuguese", "STOPWORDS_PORTUGUESE"),
    "ro": Language("romanian"),
    "ru": Language("russian", "STOPWORDS_RUSSIAN"),
    "sr": Language("serbian"),
    "sv": Language("swedish", "STOPWORDS_SWEDISH"),
    "ta": Language("tamil"),
    "tr": Language("turkish", "STOPWORDS_TURKISH"),
}
