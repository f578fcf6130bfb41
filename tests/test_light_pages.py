"""What is taken out of built pages, what stays, and the plain form of a figure that moves."""

from pathlib import Path

import gilib_frames
import gilib_light
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from PIL import Image

from gilib import plots

SCRIPTS = """<head><script src="_static/documentation_options.js"></script>
<script src="_static/copybutton.js?v=1"></script>
<script defer src="_static/scripts/fontawesome.js?digest=55"></script>
<script defer="defer" src="_static/vendor/mathjax/tex-chtml.js"></script>
<script src="_static/searchtools.js"></script><script src="searchindex.js"></script></head>
<script type="application/vnd.jupyter.widget-state+json">{"a": 1}</script>"""


def test_a_page_without_formulas_loses_five_scripts():
    light = gilib_light.without_idle_scripts(SCRIPTS)
    for gone in ("fontawesome", "mathjax", "searchtools", "searchindex", "widget-state"):
        assert gone not in light
    assert '<script src="_static/documentation_options.js"></script>' in light
    assert '<script defer src="_static/copybutton.js?v=1"></script>' in light


def test_formulas_keep_mathjax_and_the_search_page_its_index():
    assert "mathjax" in gilib_light.without_idle_scripts(SCRIPTS + '<span class="math notranslate">')
    assert "searchindex" in gilib_light.without_idle_scripts(SCRIPTS, search=True)


def test_taking_out_twice_changes_nothing():
    light = gilib_light.without_idle_scripts(SCRIPTS)
    assert gilib_light.without_idle_scripts(light) == light


def test_a_picture_keeps_every_pixel_and_says_its_size(tmp_path):
    (tmp_path / "_images").mkdir()
    picture = Image.effect_noise((30, 20), 80).convert("RGB")
    picture.save(tmp_path / "_images" / "a.png")
    page = tmp_path / "page.html"
    twice = '<img alt="one" src="_images/a.png"/><img alt="two" src="_images/a.png" width="3"/>'
    one, two = gilib_light.with_light_pictures(twice, page).split("/><")
    assert 'src="_images/a.webp"' in one
    assert 'width="30" height="20"' in one
    assert 'loading="lazy"' in two
    assert 'height="20"' not in two
    assert not (tmp_path / "_images" / "a.png").exists()
    with Image.open(tmp_path / "_images" / "a.webp") as light:
        assert light.convert("RGB").tobytes() == picture.tobytes()


def test_a_figure_of_the_library_keeps_twice_its_size_and_every_build_says_the_same(tmp_path):
    figure = plots.loss_curves({"a": [3.0, 2.0, 1.0]})
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.png").write_bytes(figure._repr_png_()[0])
    width, height = (round(size * plots.STYLE["figure.dpi"]) for size in figure.get_size_inches())
    for _ in range(2):  # the second time the PNG is gone
        said = gilib_light.with_light_pictures('<img src="_images/a.png"/>', tmp_path / "page.html")
        assert f'width="{width}" height="{height}"' in said
    with Image.open(tmp_path / "_images" / "a.webp") as light:
        assert light.size == (plots.SHARP * width, plots.SHARP * height)


def test_small_style_sheets_become_one_in_their_order_and_first_scripts_are_written_out(tmp_path):
    static = tmp_path / "_static"
    static.mkdir()
    for name in ("pygments", "one", "two"):
        (static / f"{name}.css").write_text(f".{name} {{}}")
    (static / "gilib-first.js").write_text("let first = 1;")
    (tmp_path / "chapters").mkdir()
    links = [
        f'<link rel="stylesheet" type="text/css" href="../_static/{n}.css?v=1" />' for n in ("pygments", "one", "two")
    ]
    text = "\n".join([*links, '<script src="../_static/gilib-first.js?v=2"></script>', "</head>"])
    light = gilib_light.with_few_requests(text, tmp_path / "chapters" / "page.html")
    assert light.count("stylesheet") == 2
    assert "pygments.css" in light
    assert "<script>let first = 1;</script>" in light
    [joined] = static.glob("page-*.css")
    assert f"../_static/{joined.name}" in light
    assert joined.read_text() == ".one {}\n.two {}"
    assert gilib_light.with_few_requests(light, tmp_path / "chapters" / "page.html") == light


def test_icons_are_those_that_are_named_or_drawn_by_number():
    sheet = '.fa-x:before,.fa-close:before{content:"\\f00d"}.fa-sun{--fa:"\\f185"}.prev:before{content:"\\f104"}'
    assert set(gilib_light.used_points(sheet, {"fa-close"})) == {0xF00D, 0xF104}


def test_a_font_keeps_only_the_glyphs_that_are_used(tmp_path):
    source = font_manager.findfont("DejaVu Sans")
    font = tmp_path / "font.ttf"
    font.write_bytes(Path(source).read_bytes())
    gilib_light.cut(font, {ord("a"), ord("b")})
    with TTFont(font) as light:
        assert set(light.getBestCmap()) == {ord("a"), ord("b")}


@pytest.mark.parametrize(("count", "places"), [(3, {0, 1, 2}), (6, set(range(6))), (28, {0, 5, 11, 16, 22, 27})])
def test_the_frames_on_paper_are_spread_evenly(count, places):
    assert gilib_frames.evenly(count) == places


def stored(*, frames=8):
    """What a notebook stores of a figure that moves."""
    figures = [
        {"value": f'<figure class="gilib-frame"><figcaption>{place}</figcaption></figure>'} for place in range(frames)
    ]
    slider = {"_model_name": "IntSliderModel", "description": "Step <1>"}
    return [{}, *figures, {"_model_name": "PlayModel", "interval": 250, "value": 0}, slider]


def test_a_figure_has_all_frames_one_shown_six_for_paper_and_escaped_names():
    figure = gilib_frames.figure_of(stored())
    assert figure.count("<figure") == 8
    assert figure.count("is-shown") == 1
    assert figure.count("is-still") == 6
    assert 'max="7"' in figure
    assert "Step &lt;1&gt;" in figure
    assert 'data-interval="250"' in figure


def test_other_widgets_are_left_alone():
    assert gilib_frames.figure_of([{"_model_name": "IntSliderModel", "description": "n"}]) == ""
