"""A page of the site as a chapter of an EPUB: XHTML without scripts, and formulas as MathML."""

from __future__ import annotations

import html
import json
import os.path
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag

from tools.prints.order import ROOT

# What works only with scripts, or says how to use a screen.
GONE = (
    "script, style, noscript, button, form, input, select, canvas, video, template, .gilib-live, .gilib-controls, "
    ".gilib-frame:not(.is-still), .headerlink, .gilib-filter-bar, .prev-next-footer, [hidden]"
)
DROPPED = re.compile(r"on\w+|tabindex|loading|decoding|border|align|valign|srcset")
SPELLING = {"viewbox": "viewBox", "preserveaspectratio": "preserveAspectRatio", "textlength": "textLength"}


def article(text: str) -> Tag:
    """The article of a page of the site, without what needs scripts."""
    found = BeautifulSoup(text, "html.parser").select_one("article.bd-article")
    for useless in found.select(GONE):
        useless.decompose()
    for summary in found.select("details > summary"):
        opened = summary.select_one(".collapsed")  # the theme's two labels: what shows it, and what hides it
        summary.string = (opened or summary).get_text(" ", strip=True)
    return found


def formulas_to_mathml(formulas: list[tuple[str, bool]]) -> list[str]:
    """Formulas, each with whether it stands alone, as MathML; needs node and the MathJax of the site."""
    script = Path(__file__).with_name("mathml.cjs")
    done = subprocess.run(
        ["node", str(script)], input=json.dumps(formulas), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return list(json.loads(done.stdout))


def tex_of(place: Tag) -> tuple[str, bool]:
    r"""The TeX of a formula, and whether it stands alone; the site writes \(...\) and \[...\]."""
    number = place.select_one(".eqno")
    text = place.get_text().removeprefix(number.get_text() if number else "").strip()
    return text[2:-2].strip(), text.startswith(r"\[")


def with_mathml(articles: list[Tag]) -> None:
    """Set every formula of some articles as MathML, in one run of MathJax; raises ValueError on one it cannot read."""
    places = [place for one in articles for place in one.select("span.math, div.math")]
    formulas = [tex_of(place) for place in places]
    for place, (tex, _), written in zip(places, formulas, formulas_to_mathml(formulas), strict=True):
        if "<merror" in written:
            raise ValueError(f"expected a formula that MathJax reads; got {tex}")
        number = place.select_one(".eqno")
        place.clear()
        place.extend([part for part in (number, BeautifulSoup(written, "html.parser").math) if part])


def with_links(one: Tag, path: str, known: set[str]) -> None:
    """Make links of the page ``path`` lead to chapters of the EPUB; where there is none, the words stay."""
    for link in one.select("a[href]"):
        target = urlsplit(str(link["href"]))
        if target.scheme or not target.path:
            continue
        page = os.path.normpath(os.path.join(os.path.dirname(path), target.path))
        if page in known:
            link["href"] = target._replace(path=target.path.removesuffix(".html") + ".xhtml").geturl()
        else:
            del link["href"]


def clean(one: Tag) -> None:
    """Drop attributes that EPUB does not have and identifiers that stand twice; spell those of pictures as in XML."""
    seen: set[str] = set()
    for tag in [one, *one.find_all(True)]:
        tag.attrs = {SPELLING.get(k, k): v for k, v in tag.attrs.items() if not DROPPED.fullmatch(k)}
        if tag.get("id") in seen:
            del tag["id"]
        seen |= {tag["id"]} if tag.get("id") else set()


def xhtml(one: Tag, title: str, styles: str) -> str:
    """A chapter of an EPUB; ``styles`` is the address of its style sheet."""
    one.name, one.attrs = "section", {"class": "chapter"}
    return f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en" xml:lang="en">
<head><meta charset="utf-8"/><title>{html.escape(title)}</title>
<link rel="stylesheet" type="text/css" href="{styles}"/></head>
<body>{one.decode(formatter="minimal")}</body></html>
"""
