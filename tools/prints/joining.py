"""Join printed pages into one PDF: links between them, an outline, and a number on each sheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    IndirectObject,
    NameObject,
    NullObject,
)

from tools.prints.order import Part
from tools.prints.printing import Printed

Place = tuple[int, float]  # a sheet, counted from 0, and a height on it
NUMBER = "Q BT /Number 9 Tf 0.29 0.33 0.4 rg {across:.0f} 28 Td ({number}) Tj ET"


def places_of(printed: Iterable[Printed], first: int) -> dict[str, Place]:
    """Map addresses, "page.html" and "page.html#anchor", to places, when the pages start at sheet ``first``."""
    places: dict[str, Place] = {}
    for page in printed:
        places[page.path] = (first, float(page.pdf.pages[0].mediabox.top))
        for anchor, (sheet, height) in page.places().items():
            places[f"{page.path}#{unquote(anchor)}"] = (first + sheet, height)
        first += len(page.pdf.pages)
    return places


def goal_of(link: DictionaryObject, path: str, base: str, places: Mapping[str, Place]) -> Place | None:
    """Where a link of the page ``path`` leads to inside the book; None where it leads out of it."""
    if "/Dest" in link:
        return places.get(f"{path}#{unquote(str(link['/Dest']).removeprefix('/'))}")
    address = str(link.get("/A", {}).get("/URI", ""))
    if not address.startswith(base):
        return None
    parts = urlsplit(address[len(base) :])
    return places.get(f"{parts.path}#{unquote(parts.fragment)}", places.get(parts.path))


def lead(writer: PdfWriter, sheet: int, path: str, base: str, places: Mapping[str, Place]) -> None:
    """Make the links of a sheet lead to sheets; one to a page that is not in the book goes, its words stay."""
    page, kept = writer.pages[sheet], ArrayObject()
    for found in page.get("/Annots", []):
        link = found.get_object()
        goal = goal_of(link, path, base, places)
        if goal:
            link.pop("/A", None)
            where = [writer.pages[goal[0]].indirect_reference, NameObject("/XYZ"), NullObject(), FloatObject(goal[1])]
            link[NameObject("/Dest")] = ArrayObject([*where, NullObject()])
        if goal or str(link.get("/A", {}).get("/URI", base)).startswith(base) is False:
            kept.append(found)
    page[NameObject("/Annots")] = kept


def number(writer: PdfWriter, sheet: int, font: DictionaryObject) -> None:
    """Write the number of a sheet, counted from 1, at its foot."""
    page = writer.pages[sheet]
    fonts = page["/Resources"].setdefault(NameObject("/Font"), DictionaryObject())
    fonts.get_object()[NameObject("/Number")] = font
    written = NUMBER.format(across=float(page.mediabox.width) / 2 - 5, number=sheet + 1)
    whole = page["/Contents"]
    streams = list(whole) if isinstance(whole, ArrayObject) else [page.raw_get("/Contents")]
    page[NameObject("/Contents")] = ArrayObject([stream(writer, "q"), *streams, stream(writer, written)])


def stream(writer: PdfWriter, text: str) -> IndirectObject:
    """A stream of drawing commands in the PDF."""
    made = DecodedStreamObject()
    made.set_data(f"{text}\n".encode())
    return writer._add_object(made)


def outline(writer: PdfWriter, parts: list[Part], printed: Mapping[str, Printed], places: Mapping[str, Place]) -> None:
    """Bookmarks: parts, pages, and their sections."""
    for part in parts:
        above = (
            writer.add_outline_item(title=part.caption, page_number=places[part.pages[0]][0]) if part.caption else None
        )
        for path in part.pages:
            item = writer.add_outline_item(title=printed[path].title, page_number=places[path][0], parent=above)
            for anchor, title in printed[path].sections:
                sheet = places.get(f"{path}#{anchor}", places[path])[0]
                writer.add_outline_item(title=title, page_number=sheet, parent=item)


def join(front: PdfReader, printed: list[Printed], parts: list[Part], base: str) -> PdfWriter:
    """One PDF of the front sheets and the printed pages, which were served at ``base``."""
    writer, owners = PdfWriter(), ["" for _ in front.pages]
    for reader, path in [(front, ""), *((page.pdf, page.path) for page in printed)]:
        for sheet in reader.pages:
            writer.add_page(sheet)
        owners += [path] * (len(reader.pages) if path else 0)
    places = places_of(printed, len(front.pages))
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for sheet, path in enumerate(owners):
        lead(writer, sheet, path, base, places)
        if sheet:
            number(writer, sheet, font)
    outline(writer, parts, {page.path: page for page in printed}, places)
    writer.compress_identical_objects(remove_duplicates=True, remove_unreferenced=True)
    writer.add_metadata({"/Title": "Gradient Inversion: an executable textbook"})
    return writer
