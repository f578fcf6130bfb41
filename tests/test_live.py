"""Figures that are computed again: here with an object, and in a running kernel as a page would ask for it."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import running_kernel

from gilib.live import Explorer, Strip, explore

SHADES = {"dark": 0.0, "light": 1.0}


def strip(shade: float = 0.0, count: int = 3) -> Strip:
    if shade > 1:
        raise ValueError("no shade is over 1 <really>")
    frames = [np.full((2, 2), shade) for _ in range(count)]
    return Strip(frames, [f"frame {i} of shade {shade}" for i in range(count)], ["A grey square"] * count)


def shown(figure: Explorer) -> str:
    return figure.scrubber.children[0].children[0].value


def test_the_first_of_each_choice_is_shown_and_another_is_computed():
    figure = explore(strip, change={"shade": SHADES, "count": [3, 4]})
    assert "of shade 0.0" in shown(figure)
    assert figure.scrubber.frame_count == 3
    figure.choices["shade"].value = 1.0
    assert "of shade 1.0" in shown(figure)
    assert "shade light, count 3" in figure.status.value
    figure.choices["count"].value = 4
    assert figure.scrubber.frame_count == 4
    assert "of shade 1.0" in shown(figure)
    assert not any(choice.disabled for choice in figure.choices.values())


def test_the_reader_stays_at_the_frame_where_they_were():
    figure = explore(strip, change={"count": [5, 4, 2]})
    slider = figure.scrubber.children[1].children[1]
    slider.value = 3
    for count, place in ((4, 3), (2, 1)):
        figure.choices["count"].value = count
        assert figure.scrubber.children[1].children[1].value == place


def test_old_pictures_are_freed():
    figure = explore(strip, change={"shade": SHADES})
    old = [figure.scrubber, *figure.scrubber.children[0].children]
    figure.choices["shade"].value = 1.0
    assert all(widget.comm is None for widget in old)
    assert figure.comm is not None


def test_a_choice_that_fails_leaves_the_figure_and_says_why():
    figure = explore(strip, change={"shade": [0.5, 2.0]})
    figure.choices["shade"].value = 2.0
    assert "of shade 0.5" in shown(figure)
    assert "Not computed:</strong> no shade is over 1 &lt;really&gt;" in figure.status.value
    assert not figure.choices["shade"].disabled


def test_a_stored_output_is_short():
    assert repr(explore(strip, change={"shade": SHADES, "count": [3, 4]})) == "Explorer(shade, count)"


@pytest.mark.parametrize("change", [{}, {"shade": [1.0]}, {"shade": SHADES, "count": {}}])
def test_nothing_to_choose_from(change):
    with pytest.raises(ValueError, match="at least two values"):
        explore(strip, change=change)


def test_a_page_that_chooses_is_answered_by_the_kernel(tmp_path):
    with running_kernel(tmp_path) as kernel:
        kernel.run(
            "import numpy as np\n"
            "from gilib.live import Strip, explore\n"
            "def run(noise):\n"
            "    return Strip([np.full((2, 2), noise)] * 2, [f'noise {noise}'] * 2, ['A square'] * 2)\n"
            "figure = explore(run, change={'noise': [0.0, 0.5]})"
        )
        kernel.change(kernel.run("print(figure.choices['noise'].model_id)").strip(), index=1)
        assert "noise 0.5" in kernel.run("print(figure.scrubber.children[0].children[0].value)")
