"""Take the picture of the landing page and the README from the stored outputs of a chapter.

    python tools/cover.py            write book/images/cover.png
    python tools/cover.py --check    only say whether it is the stored figure; exit status 1 if it is not

The chapter glues the figure as "hero_figure". The picture is a file because a page cannot give alternative text to a
figure that it glues from another page, and because the README cannot glue at all.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = ROOT / "chapters/foundations/first_leak.ipynb"
COVER = ROOT / "book/images/cover.png"
KEY = "hero_figure"


def glued_png(chapter: Path, key: str) -> bytes:
    """Return the PNG that ``chapter`` glued under ``key``; raise LookupError if it did not."""
    for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            record = output.get("metadata", {}).get("scrapbook", {})
            if record.get("name") == key:
                picture = output["data"].get(record.get("mime_prefix", "") + "image/png")
                if picture is not None:
                    return base64.b64decode("".join(picture))
    raise LookupError(f'expected a figure glued as "{key}" in {chapter.name}, found none; add glue("{key}", figure)')


def main() -> int:
    """Write the cover, or check it."""
    picture = glued_png(CHAPTER, KEY)
    if "--check" in sys.argv[1:]:
        same = COVER.exists() and COVER.read_bytes() == picture
        print("The cover is the stored figure." if same else "The cover is stale: run python tools/cover.py")
        return 0 if same else 1
    COVER.parent.mkdir(exist_ok=True)
    COVER.write_bytes(picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
