"""PPTX: the slides of a presentation."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from ragjob.documents.readers.archive import core_properties, open_archive
from ragjob.documents.readers.document import Document, Limits
from ragjob.documents.readers.draft import Draft
from ragjob.documents.readers.parsed import ParsedReader


class PPTX(ParsedReader):
    """Each slide is a page: its title as heading, its text, tables, grouped shapes, and the speaker's notes."""

    def parse(self, content: bytes, limits: Limits) -> Document:
        import pptx

        title, about = core_properties(open_archive(content))
        presentation = pptx.Presentation(io.BytesIO(content))
        draft = Draft(limits)
        for slide in presentation.slides:
            draft.turn_page(ends_sections=True)
            heading = slide.shapes.title
            if heading is not None:
                draft.add_heading(heading.text_frame.text, 1)
            for shape in _flat(slide.shapes):
                if heading is None or shape.shape_id != heading.shape_id:
                    _add_shape(draft, shape)
            if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
                draft.add(slide.notes_slide.notes_text_frame.text)
        return draft.document(title, about)


def _flat(shapes: Iterable[Any]) -> Iterator[Any]:
    """Shapes, with those of a group in its place."""
    for shape in shapes:
        if hasattr(shape, "shapes"):  # the library has no type for some plain shapes
            yield from _flat(shape.shapes)
        else:
            yield shape


def _add_shape(draft: Draft, shape: Any) -> None:
    if shape.has_text_frame:
        draft.add("\n".join(paragraph.text for paragraph in shape.text_frame.paragraphs))
    elif shape.has_table:
        draft.add_rows([cell.text for cell in row.cells] for row in shape.table.rows)
