"""The rules of a chapter can fail: each one accepts a good notebook and refuses one that breaks it."""

from __future__ import annotations

import copy

import chapter_rules as rules
import pytest
from chapter_numbers import typed_numbers

TEXT = """# Does it leak?

> You will be able to: run it.
> Before you start. Reading: 5 min. Running: 60 s on two CPU cores.

## The victim

The threat model is A; the median is {glue:text}`x-psnr`, the rate $0.1$, the code `31.2`.

## What it costs
## What it means
## Summary

*Measured on*: sixteen photographs, one network (one seed).

- *Run it*: it leaks ({numref}`fig-x`).

## Exercises

```{exercise}
:label: ex-x
What would happen if?
```

```{solution} ex-x
:class: dropdown
Nothing.
```

## Further reading
"""
ALL = [*rules.RULES, typed_numbers]


def markdown(source, **metadata):
    return {"cell_type": "markdown", "source": source, "metadata": metadata}


def code(source, *outputs, count=1, **metadata):
    return {
        "cell_type": "code",
        "source": source,
        "metadata": metadata,
        "outputs": list(outputs),
        "execution_count": count,
    }


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def display(**data):
    return {
        "output_type": "display_data",
        "data": {key.replace("_", "/"): value for key, value in data.items()},
        "metadata": {},
    }


def glued(text):
    return {
        "output_type": "display_data",
        "data": {rules.RECORD + "text/plain": text},
        "metadata": {"scrapbook": {"name": "x"}},
    }


FIGURE = {"image": {"alt": "A line that rises."}, "figure": {"caption": "The loss.", "name": "fig-x"}}


@pytest.fixture
def good():
    return {
        "metadata": {},
        "cells": [
            markdown(TEXT),
            code(
                "plot()",
                display(image_png="iVBOR", text_plain="<Figure size 600x300 with 1 Axes>"),
                mystnb=copy.deepcopy(FIGURE),
            ),
            code("print(31.2)", stream("median 31.2 dB, 13 of 16\n"), glued("'31.2 dB'"), count=2),
        ],
    }


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(good, rule):
    assert rule(good) == []


@pytest.mark.parametrize("count", [None, 1, 3, 7])
def test_execution_counts(good, count):
    good["cells"][2]["execution_count"] = count
    assert rules.executed_in_order(good)


def test_outputs_are_stored(good):
    for cell in good["cells"][1:]:
        cell["outputs"] = []
    assert rules.outputs_stored(good)


def test_stored_error(good):
    good["cells"][2]["outputs"] = [{"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}]
    assert rules.outputs_stored(good)
    good["cells"][2]["metadata"]["tags"] = ["raises-exception"]
    assert not rules.outputs_stored(good)


def test_stderr(good):
    good["cells"][2]["outputs"].append(stream("careful", name="stderr"))
    assert rules.no_stderr(good)


@pytest.mark.parametrize("part, key", [("image", "alt"), ("figure", "caption"), ("figure", "name")])
def test_picture_without_a_description(good, part, key):
    good["cells"][1]["metadata"]["mystnb"][part][key] = ""
    assert rules.figures_described(good)


def test_picture_without_metadata_and_svg(good):
    good["cells"][2]["outputs"].append(display(image_jpeg="/9j/"))
    assert len(rules.figures_described(good)) == 3
    good["cells"][2] = code(
        "plot()", {"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}}, count=2, mystnb=FIGURE
    )
    assert rules.figures_described(good)


@pytest.mark.parametrize(
    "text",
    [
        "![](a.png)",
        '<img src="a.png">',
        '<img src="a.png" alt="">',
        "```{image} a.png\n:width: 5\n```",
        ":::{figure} a.png\nWords.\n:::",
    ],
)
def test_picture_in_the_text_without_alternative_text(good, text):
    good["cells"].append(markdown(text))
    assert rules.figures_described(good)


def test_picture_in_the_text_with_alternative_text(good):
    good["cells"].append(
        markdown('![A cat](a.png) <img src="a.png" alt="A cat">\n\n```{image} a.png\n:alt: A cat\n```')
    )
    assert not rules.figures_described(good)


@pytest.mark.parametrize(
    "value, bad", [('<img src="x" alt="Noise">', False), ('<img src="x" alt="">', True), ('<img src="x">', True)]
)
def test_frames_of_a_widget(good, value, bad):
    model = {"model_name": "HTMLModel", "state": {"value": value}}
    good["metadata"]["widgets"] = {rules.STATE: {"state": {"a": model}}}
    assert bool(rules.figures_described(good)) is bad


def test_image_widgets_cannot_be_described(good):
    good["metadata"]["widgets"] = {rules.STATE: {"state": {"a": {"model_name": "ImageModel", "state": {}}}}}
    assert rules.figures_described(good)


def test_long_code_cell(good):
    good["cells"][2]["source"] = "\n".join(["x = 1"] * 25)
    assert not rules.short_code_cells(good)
    good["cells"][2]["source"] += "\nx = 1"
    assert rules.short_code_cells(good)


def test_three_code_cells_in_a_row(good):
    assert not rules.words_between_code(good)
    good["cells"].append(code("x = 1", count=3))
    assert len(rules.words_between_code(good)) == 1


@pytest.mark.parametrize("part", rules.FRAME)
def test_missing_part_of_the_frame(good, part):
    good["cells"][0]["source"] = rules.re.sub(rules.FRAME[part], "", TEXT)
    assert rules.frame_complete(good) == [f"the chapter lacks {part}"]


@pytest.mark.parametrize(
    "old, new", [(":label: ex-x\n", ""), ("{solution} ex-x", "{note} ex-x"), (":class: dropdown\n", "")]
)
def test_exercise_without_a_solution_to_open(good, old, new):
    good["cells"][0]["source"] = TEXT.replace(old, new)
    assert rules.exercises_solved(good)


def test_no_exercise(good):
    good["cells"][0]["source"] = TEXT.replace("{exercise}", "{note}")
    assert rules.exercises_solved(good)


def test_gated_exercise_and_solution(good):
    good["cells"][0]["source"] = TEXT.replace("{exercise}", "{exercise-start}").replace(
        "{solution}", "{solution-start}"
    )
    assert not rules.exercises_solved(good)


def test_ignored_output_needs_a_reason(good):
    good["cells"][2]["metadata"] = {"tags": ["nbval-ignore-output"]}
    assert rules.ignored_outputs(good)
    good["cells"][2]["metadata"]["reason"] = "a measured time"
    assert not rules.ignored_outputs(good)


def test_too_many_ignored_outputs(good):
    cell = code("x", tags=["nbval-ignore-output"], reason="a measured time")
    good["cells"] += [cell, cell, cell]
    assert rules.ignored_outputs(good)


@pytest.mark.parametrize("cell", [code("# NBVAL_IGNORE_OUTPUT\nx"), code("x", tags=["nbval-skip"])])
def test_hidden_ways_to_skip(good, cell):
    good["cells"].append(cell)
    assert rules.ignored_outputs(good)


@pytest.mark.parametrize("text", ["31.2", "-1", "tensor(1.)", "True", "np.float64(1.5)"])
def test_glued_number(good, text):
    good["cells"][2]["outputs"].append(glued(text))
    assert rules.glued_as_text(good)


@pytest.mark.parametrize(
    "text",
    [
        "The median is 31.2 dB.",
        "The median is 31.2.",
        "The median is 31 dB.",
        "It works for 13 of 16.",
        "| a | 31.2 dB |",
        "```{note}\nThe median is 31.2 dB.\n```",
    ],
)
def test_typed_number(good, text):
    good["cells"].append(markdown(text))
    assert typed_numbers(good)


@pytest.mark.parametrize(
    "text",
    [
        "The paper reports 29.7 dB.",
        "There are 31 photographs, in 2019.",
        "Code `31.2`, maths $31.2$, a role {cite:t}`31.2`, [a link](31.2).",
        "$$31.2$$\n\n```python\nx = 31.2\n```\n\n```{math}\n31.2\n```",
        "It works for 12 of 16, in 131.2 ms, with version 31.2.1.",
    ],
)
def test_number_that_no_output_has(good, text):
    good["cells"].append(markdown(text))
    assert not typed_numbers(good)


def test_typed_number_with_a_reason(good):
    good["cells"].append(markdown("The rate is 31.2.", **{"typed-numbers": {"31.2": "a setting"}}))
    assert not typed_numbers(good)
    good["cells"][-1]["metadata"]["typed-numbers"]["31.2"] = " "
    assert typed_numbers(good)


@pytest.mark.parametrize(
    "claim",
    ["it leaks.", "it leaks ({numref}`fig-y`).", "it leaks (fig-x).", "it leaks ({doc}`fig-x`)."],
)
def test_a_claim_of_the_summary_points_to_evidence_of_the_chapter(good, claim):
    good["cells"][0]["source"] = TEXT.replace("it leaks ({numref}`fig-x`).", claim)
    assert rules.summary_names_its_evidence(good)


def test_a_section_and_a_table_serve_as_well(good):
    text = TEXT.replace("## What it costs", "(sec-x)=\n## What it costs")
    for summary in ("- *Run it*: {ref}`sec-x`.", "| a | b |\n|---|---|\n| run it | {ref}`here <sec-x>` |"):
        good["cells"][0]["source"] = text.replace("- *Run it*: it leaks ({numref}`fig-x`).", summary)
        assert rules.summary_names_its_evidence(good) == []


@pytest.mark.parametrize("line", ["", "*Measured on*: photographs, one seed.", "*Measured on*: 16 photographs."])
def test_the_summary_says_how_much_it_rests_on(good, line):
    good["cells"][0]["source"] = TEXT.replace("*Measured on*: sixteen photographs, one network (one seed).", line)
    assert rules.summary_says_what_it_was_measured_on(good)
