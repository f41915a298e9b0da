import gzip

import pytest

from ragjob.documents.readers.base import Kind
from ragjob.documents.readers.html import HTML
from tests.documents.readers.documents import blocks

PAGE = b"""<!doctype html><html lang=en><head><title>The  harbour
line</title><meta name=Author content="A. B."><meta property="article:published_time" content="1931-05-02"></head>
<body><nav><ul><li><a href=/>Home</a><li><a href=/lines>All lines</a></ul></nav>
<main><h1>The <em>harbour</em> line</h1><p>It opened in <b>19</b>31 &lt;as planned&gt;.<p>A second paragraph.
<ul><li>first item<li>second item<ul><li>inner item</ul></ul>
<h2>Depots</h2><table><caption>In 1931</caption><tr><th>Depot<th>Cars<tr><td title="a > b">Nordhavn<td><p>42 <i>c</i>ars
<tr><td>A &amp; B<td></table>
<pre><code>def cars():
    return 42
</code></pre></main><footer>Copyright</footer><script>run()</script></body></html>"""


def test_the_main_content_of_a_page_is_read_in_blocks() -> None:
    document = HTML().read(PAGE)
    assert blocks(document) == [
        (Kind.HEADING, 1, None, "The harbour line"),
        (
            Kind.PROSE,
            0,
            None,
            "It opened in 1931 <as planned>.\n\nA second paragraph.\n\n- first item\n- second item\n- inner item",
        ),
        (Kind.HEADING, 2, None, "Depots"),
        (Kind.TABLE, 0, None, "In 1931\nDepot | Cars\nNordhavn | 42 cars\nA & B"),
        (Kind.CODE, 0, None, "def cars():\n    return 42"),
    ]


def test_title_and_meta_are_the_title_and_metadata() -> None:
    document = HTML().read(PAGE)
    assert document.title == "The harbour line"
    assert document.metadata == {"author": "A. B.", "date": "1931-05-02", "language": "en"}


@pytest.mark.parametrize(
    "content",
    [
        "<p>Zoë in Århus".encode(),
        "<p>Zoë in Århus".encode("utf-16"),
        "<meta charset=iso-8859-1><p>Zoë in Århus".encode("latin-1"),
        gzip.compress("<p>Zoë in Århus".encode()),
    ],
    ids=["utf-8", "utf-16", "stated", "packed"],
)
def test_a_page_is_read_in_its_encoding(content: bytes) -> None:
    assert HTML().read(content).text == "Zoë in Århus"


def test_a_table_that_lays_out_a_page_is_no_table() -> None:
    document = HTML().read(b"<table><tr><td><h1>Line</h1><p>It opened.<td><table><tr><td>a<td>b</table></table>")
    assert [block[0] for block in blocks(document)] == [Kind.HEADING, Kind.PROSE, Kind.TABLE]


def test_a_page_without_text_is_an_error() -> None:
    assert HTML().read(b"<script>run()</script>").error == "file has no text; leave it out"


def test_elements_ten_thousand_deep_are_an_error() -> None:
    assert HTML().read(b"<div>" * 10_000 + b"deep").error == (
        "elements are nested more than 512 deep; leave the file out"
    )


def test_a_page_of_very_many_lists_and_tables_is_read() -> None:
    part = "<p>line {}</p><ul><li>item</ul><table><tr><td>a<td>b</table>"
    text = HTML().read("".join(part.format(number) for number in range(5000)).encode()).text or ""
    assert "line 4999" in text
