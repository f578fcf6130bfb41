"""The report as one HTML file that needs nothing else: no script, no font, no other host."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image
from torch import Tensor

from gilib.audit.finding import Finding
from gilib.audit.report import Report

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #767676; --leak: #b3261e; --some: #8a5300;
  --none: #1b6e34; --open: #565656; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #14181c; --line: #8a8a8a; --leak: #ff8a80;
  --some: #ffb74d; --none: #7bd88f; --open: #bdbdbd; } }
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
  margin: 0 auto; padding: 1rem; }
h1 span, td.level { font-weight: 600; }
.leak { color: var(--leak); } .partial { color: var(--some); } .nothing { color: var(--none); }
.open { color: var(--open); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; min-width: 38rem; } th, td { text-align: left; vertical-align: top;
  padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; } figcaption { max-width: 20rem; font-size: .875rem; }
img { image-rendering: pixelated; height: 8rem; max-width: 100%; }
dt { font-weight: 600; } dd { margin: 0 0 .3rem 0; overflow-wrap: anywhere; }
"""
CLASSES = {"leak": "leak", "partial": "partial", "nothing": "nothing", "no answer": "open", "note": "open"}
VERDICTS = {
    "images leak": "leak",
    "partial leak": "partial",
    "nothing found": "nothing",
    "no answer": "no answer",
}


def page(report: Report) -> str:
    """The whole file, UTF-8."""
    verdict, data = report.verdict, report.as_json()
    about = data["client"]
    facts = {
        "Client": f"{about['model']}, {about['parameters']:,} parameters, {about['mode']} mode",
        "Training": about["local"],
        "Defenses": ", ".join(f"{one['name']} {one['public']}" for one in about["defenses"]) or "none",
        "Guarantee": report.guarantee or "none",
        "Victims": f"{report.target.victims} clients of {report.target.batch} images, among {data['candidates']}",
        "A guess without any update": f"{data['guess']} dB in the median",
        "Threat model": f"{report.settings.threat}; recovered from {report.settings.recovered:g} dB on",
        "Chosen search": report.selected or "none",
        "Made by": ", ".join(f"{name} {version}" for name, version in data["versions"].items())
        + f", seed {report.settings.seed}, {data['seconds']:.0f} s",
    }
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Audit: {escape(verdict)}</title><style>{STYLE}</style></head><body><main>",
        f'<h1>Does it leak? <span class="{CLASSES[VERDICTS[verdict]]}">{escape(verdict.capitalize())}</span></h1>',
        "<p><strong>Interrupted</strong>: this is what was finished.</p>" if report.interrupted else "",
        *(f"<p>{escape(sentence)}</p>" for sentence in report.meaning()),
        "<h2>What was tried</h2>",
        _table(report.findings),
        _pictures(report.findings),
        "<h2>The control: no defenses, before training</h2>" if report.control else "",
        _table(report.control) if report.control else "",
        _pictures(report.control),
        "<h2>Settings</h2><dl>",
        *(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()),
        "</dl></main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _table(findings: list[Finding]) -> str:
    rows = []
    for one in findings:
        rows.append(
            f'<tr><td class="level {CLASSES[one.level]}">{escape(one.level)}</td><td>{escape(one.check)}</td>'
            f"<td>{escape(one.said)}</td><td>{one.seconds:.0f} s</td></tr>"
        )
    head = "<tr><th>Result</th><th>Check</th><th>What came back</th><th>Time</th></tr>"
    return f'<div class="wide" tabindex="0"><table>{head}{"".join(rows)}</table></div>'


def _pictures(findings: list[Finding]) -> str:
    """The person for whom each check did best, and what it made of them."""
    figures = []
    for one in findings:
        if one.clearest is None:
            continue
        source = base64.b64encode(png(one.clearest.truth, one.clearest.found)).decode()
        quality = "exact" if one.clearest.psnr >= 100 else f"{one.clearest.psnr:.1f} dB"
        alt = f"Two pictures side by side: a victim's image, and what {one.check} made of its update, {quality}."
        figures.append(
            f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{escape(one.check)}: the person for whom it did best ({quality}), true image on the left"
            "</figcaption></figure>"
        )
    return "".join(figures)


def png(*images: Tensor) -> bytes:
    """Images (C, H, W) in [0, 1], C being 1 or 3, side by side in one PNG file."""
    sides = [(255 * one.clamp(0, 1)).round().byte().cpu().permute(1, 2, 0).numpy() for one in images]
    whole = np.concatenate([np.broadcast_to(side, (*side.shape[:2], 3)) for side in sides], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(whole)).save(buffer, "PNG")
    return buffer.getvalue()
