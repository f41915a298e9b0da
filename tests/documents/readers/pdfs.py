"""PDF files, written by hand."""

import zlib
from collections.abc import Sequence

Text = tuple[float, str]  # the size of the letters, and a line
GAP = 1.2  # from line to line, times the size
# A further entry of the trailer, by which a file has a password.
PASSWORD = "/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{0}> /U <{0}> >>".format("17" * 32)


def pdf(*pages: Sequence[Text], info: str = "", catalog: str = "", trailer: str = "") -> bytes:
    """A file with these lines on its pages, from the top. A blank line is a gap.

    `info`, `catalog` and `trailer` are further entries of those dictionaries.
    """
    kids = " ".join(f"{5 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        f"<< {info} >>".encode(),
    ]
    for number, page in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (6 + 2 * number)
        )
        content = zlib.compress(_content(page))
        objects.append(
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content),
        )
    return assemble(objects, trailer)


def assemble(objects: Sequence[bytes], trailer: str = "") -> bytes:
    """A file of numbered objects: the first is the catalog, the fourth the information."""
    file, places = b"%PDF-1.7\n", []
    parts = [file]
    length = len(file)
    for number, body in enumerate(objects, 1):
        places.append(length)
        parts.append(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        length += len(parts[-1])
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    parts += [b"%010d 00000 n \n" % place for place in places]
    about = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R {trailer} >>"
    parts.append(f"trailer\n{about}\nstartxref\n{length}\n%%EOF\n".encode())
    return b"".join(parts)


def loop() -> bytes:
    """A file whose pages hold each other."""
    pages = b"<< /Type /Pages /Kids [%d 0 R] /Parent %d 0 R /Count 5 >>"
    return assemble([b"<< /Type /Catalog /Pages 2 0 R >>", pages % (3, 3), pages % (2, 2), b"<< >>"])


def page_bomb() -> bytes:
    """A file with one page, of 700 MiB, which is packed to a thousandth of that."""
    packing = zlib.compressobj(9)
    first, more = (packing.compress(b" " * 2**20) + packing.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    content = first + more * 699 + packing.flush()
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R >>"
    stream = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content)
    pages = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page]
    return assemble([*pages, b"<< >>", stream])


def _content(page: Sequence[Text]) -> bytes:
    y, lines = 800.0, []
    for size, text in page:
        y -= GAP * size
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        lines.append(f"BT /F {size} Tf 1 0 0 1 50 {y:.1f} Tm ({escaped}) Tj ET")
    return "\n".join(lines).encode("cp1252")
