"""Sphinx extension: after the build, pages lose what they carry and do not use.

- The theme draws a dozen icons by a script of two megabytes and by a font. The font stays, cut down to these icons.
- Pictures become lossless WebP, with their sizes on the page, and load when they come near the screen.
- The index of the search is for the page of the search, MathJax for pages with a formula, and what a notebook stored of
  its widgets is shown by plain figures already. Scripts that only make buttons wait until the page is read, and small
  style sheets come as one file: on a slow line each request costs half a second.
- Source maps are for whoever writes the theme.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image
from sphinx.application import Sphinx

ICON_SCRIPT = re.compile(r'<script[^>]*src="[^"]*/fontawesome\.js[^"]*"[^>]*></script>\s*')
WIDGETS = re.compile(r'<script type="application/vnd\.jupyter\.widget-state\+json">.*?</script>', re.DOTALL)
SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
MATHJAX = re.compile(r'<script[^>]*src="[^"]*/mathjax/[^"]*"[^>]*></script>\s*')
LATER = re.compile(
    r'<script(?! defer)(?= [^>]*src="[^"]*/'
    r"(?:clipboard\.min|copybutton|togglebutton|design-tabs|doctools|sphinx_highlight|sphinx-book-theme)\.js)"
)
FIRST = re.compile(r'<script src="(?P<source>[^"?]*/(?:gilib-first|documentation_options)\.js)[^"]*"></script>')
PRELOAD = re.compile(r'<link rel="preload" as="script"[^>]*/>\s*')
STYLE = re.compile(
    r'<link rel="stylesheet" type="text/css" href="(?P<root>[^"]*_static/)'
    r'(?P<name>(?!pygments)[^/"?]+\.css)[^"]*" />\s*'
)
PICTURE = re.compile(r'<img\b[^>]*?\bsrc="(?P<source>[^":]*_images/[^"]+\.png)"[^>]*>')
ICON_CLASS = re.compile(r"\bfa-[a-z0-9-]+")
ICON_RULE = re.compile(r"((?:\.fa-[a-z0-9-]+(?::before)?,?)+)\{(?:--fa|content):\s*\"\\([0-9a-f]{2,5})\"")
OTHER_ICON = re.compile(r"content:\s*\"\\([ef][0-9a-f]{3})\"")
SCREEN = 110  # dots an inch of a figure that has one for each pixel of the page, as gilib.plots draws it
RESOLUTION = 0x011A  # where a picture notes its dots an inch
COMPRESSED_FONT = re.compile(r'url\([^)]*webfonts/[^)]*\.woff2\) format\("woff2"\),')


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Do all of it to the built pages of a site."""
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        light = without_idle_scripts(text, search=page.name == "search.html")
        light = with_light_pictures(with_few_requests(light, page), page)
        if light != text:
            page.write_text(light, encoding="utf-8")
    for useless in (*site.rglob("*.map"), site / "_static" / "scripts" / "fontawesome.js"):
        useless.unlink(missing_ok=True)
    cut_icons(site, pages)


def without_idle_scripts(text: str, *, search: bool = False) -> str:
    """The text of a page without scripts for which it has no use, ``search`` being the page of the search."""
    text = PRELOAD.sub("", WIDGETS.sub("", ICON_SCRIPT.sub("", text)))
    if 'class="math' not in text:
        text = MATHJAX.sub("", text)
    return text if search else LATER.sub("<script defer", SEARCH.sub("", text))


def with_few_requests(text: str, page: Path) -> str:
    """The text of a page with its two smallest scripts written out, and its small style sheets as one file."""

    def written(match: re.Match[str]) -> str:
        return f"<script>{(page.parent / match['source']).read_text(encoding='utf-8').strip()}</script>"

    text = FIRST.sub(written, text.replace("_static/styles/theme.css", "_static/basic.css"))
    sheets = list(STYLE.finditer(text))
    if len(sheets) < 2:
        return text
    folder = page.parent / sheets[0]["root"]
    joined = "\n".join((folder / one["name"]).read_text(encoding="utf-8") for one in sheets)
    name = f"page-{hashlib.sha256(joined.encode()).hexdigest()[:10]}.css"
    (folder / name).write_text(joined, encoding="utf-8")
    link = f'<link rel="stylesheet" type="text/css" href="{sheets[0]["root"]}{name}" />\n'
    end = sheets[-1].end()
    return STYLE.sub("", text[:end]) + link + text[end:]


def with_light_pictures(text: str, page: Path) -> str:
    """The text of a page whose pictures in ``_images`` are WebP files beside the built ones."""

    def light(match: re.Match[str]) -> str:
        width, height = converted((page.parent / match["source"]).resolve())
        tag = match.group().replace(match["source"], match["source"].removesuffix(".png") + ".webp")
        sizes = "" if re.search(r"\b(width|height)=", tag) else f' width="{width}" height="{height}"'
        lazy = "" if "loading=" in tag else ' loading="lazy" decoding="async"'
        return f"{tag[:4]}{sizes}{lazy}{tag[4:]}"

    return PICTURE.sub(light, text)


def converted(picture: Path) -> tuple[int, int]:
    """Write a picture as lossless WebP, where it is there anew, and return its width and height on the page.

    A figure of more dots an inch than the page has is drawn that much smaller: it is sharp where screens are finer.
    """
    light = picture.with_suffix(".webp")
    if picture.exists():
        with Image.open(picture) as image:
            note = Image.Exif()
            note[RESOLUTION] = round(image.info.get("dpi", (SCREEN,))[0])
            image.save(light, lossless=True, method=4, exif=note)
        picture.unlink()
    with Image.open(light) as image:
        dots = max(SCREEN, image.getexif().get(RESOLUTION, SCREEN))
        return round(image.width * SCREEN / dots), round(image.height * SCREEN / dots)


def cut_icons(site: Path, pages: Iterable[Path]) -> None:
    """Cut the icon fonts down to the icons that a page or a script names, or a style sheet draws by their number."""
    styles = sorted((site / "_static").glob("**/*.css"))
    sheets = [path.read_text(encoding="utf-8") for path in styles]
    scripts = [path for path in sorted((site / "_static").glob("**/*.js")) if "vendor" not in path.parts]
    sources = [*pages, *scripts]
    named = {name for path in sources for name in ICON_CLASS.findall(path.read_text(encoding="utf-8"))}
    points = set(used_points("\n".join(sheets), named))
    for font in sorted((site / "_static" / "vendor" / "fontawesome" / "webfonts").glob("*.ttf")):
        cut(font, points)
    for path, sheet in zip(styles, sheets, strict=True):
        if COMPRESSED_FONT.search(sheet):
            path.write_text(COMPRESSED_FONT.sub("", sheet), encoding="utf-8")
    for font in (site / "_static" / "vendor" / "fontawesome" / "webfonts").glob("*.woff2"):
        font.unlink()


def used_points(sheet: str, named: set[str]) -> Iterable[int]:
    """The code points of icons whose class is among ``named``, and of those that other rules of a sheet draw."""
    for classes, point in ICON_RULE.findall(sheet):
        if named & set(ICON_CLASS.findall(classes)):
            yield int(point, 16)
    yield from (int(point, 16) for point in OTHER_ICON.findall(ICON_RULE.sub("", sheet)))


def cut(font: Path, points: set[int]) -> None:
    """Leave in a font file only the glyphs of some code points."""
    options = subset.Options(layout_features=[], name_IDs=[1, 2], notdef_outline=False, hinting=False)
    with TTFont(font) as whole:
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=points)
        cutter.subset(whole)
        whole.save(font)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
