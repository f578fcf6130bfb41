"""The command line of the audit: files in, a table, two files and an exit code out."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import gilib
from gilib import data, metrics
from gilib.audit.page import page
from gilib.audit.received import received
from gilib.audit.report import Report
from gilib.audit.run import audit
from gilib.audit.settings import KNOWN, Settings
from gilib.audit.target import Target, load_target

QUICK = 20.0
EXAMPLE = "gilib audit target.py --images photographs/ --size 32 --batch 4"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the audit to the commands of the library."""
    parser = commands.add_parser(
        "audit",
        help="does my federation leak?",
        description="Attack a few clients of your own, and say what came back. Exit code: 0 nothing found, 1 labels, "
        "features or some names, 2 images (or, with no report, a wrong command line), 3 no answer because the attacks "
        f"were too weak, 130 interrupted. Example: {EXAMPLE}",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the audit."""
    parser.add_argument("target", type=Path, help="a Python file with model(), and perhaps client(model), untrained()")
    parser.add_argument(
        "--images", required=True, help="a folder of your own images, one folder a class; or a data set: digits, photos"
    )
    parser.add_argument("--size", type=int, help="scale images to so many pixels a side")
    parser.add_argument("--grey", action="store_true", help="one channel: the mean of the colours")
    parser.add_argument("--batch", type=int, default=1, help="images of a client (default: 1)")
    parser.add_argument("--victims", type=int, default=4, help="how many clients are tried (default: 4)")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="time for everything (default: 90)")
    parser.add_argument("--quick", action="store_true", help=f"take {QUICK:.0f} seconds")
    parser.add_argument("--threat", choices=tuple(KNOWN), default="C", help="what the server knows (default: C)")
    parser.add_argument("--recovered", type=float, default=metrics.RECOVERED, help="PSNR of a leak (default: 25)")
    parser.add_argument("--named", type=float, default=0.5, help="share of named images that is a leak (default: 0.5)")
    parser.add_argument("--before", type=Path, help="weights that a client received: a file of torch.save(state_dict)")
    parser.add_argument(
        "--after", type=Path, help="weights that the client sent back; its images come first in --images"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the searches (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("audit"), help="folder of the report (default: audit)")


def run(options: argparse.Namespace) -> int:
    """Audit, print and write the report, and return the exit code. A wrong input gives a sentence and 2."""
    try:
        settings = Settings(
            seconds=QUICK if options.quick else options.seconds,
            threat=options.threat,
            recovered=options.recovered,
            named=options.named,
            seed=options.seed,
        )
        report = audit(_target(options), settings, progress=_Bar())
    except (ValueError, FileNotFoundError, OSError) as error:
        print(f"\ngilib audit: {error}", file=sys.stderr)
        return 2
    print(f"\r{' ' * 78}\r", end="", file=sys.stderr)
    print(report)
    for path in written(report, options.out):
        print(f"Written: {path}")
    return report.exit_code


def written(report: Report, folder: Path) -> list[Path]:
    """The report as ``audit.html`` and ``audit.json`` in a folder, which is made; each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"audit.html": page(report), "audit.json": json.dumps(report.as_json(), indent=2) + "\n"}
    for name, text in texts.items():
        fresh = folder / f"{name}.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(folder / name)
    return [folder / name for name in texts]


def _target(options: argparse.Namespace) -> Target:
    if (options.before is None) != (options.after is None):
        raise ValueError("--before and --after belong together: the weights received, and those sent back.")
    images = data.load(options.images, size=options.size)
    if options.grey:
        images = replace(images, images=images.images.mean(dim=1, keepdim=True))
    if options.before is None:
        return load_target(options.target, images, batch=options.batch, victims=options.victims)
    target = load_target(options.target, images, batch=options.batch, victims=1)
    return received(target, options.before, options.after)


class _Bar:
    """A line that says how far the audit is; on a file or in a build, a line for each step."""

    def __call__(self, share: float, text: str) -> None:
        if not sys.stderr.isatty():
            print(f"{share:4.0%} {text}", file=sys.stderr, flush=True)
            return
        filled = round(20 * share)
        print(f"\r[{'#' * filled}{'.' * (20 - filled)}] {text[:54]:54}", end="", file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> int:
    """``gilib audit``, ``python -m gilib.audit``: the library's command line."""
    parser = argparse.ArgumentParser(prog="gilib", description="Gradient inversion: what training data come back.")
    parser.add_argument("--version", action="version", version=f"gilib {gilib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_to(commands)
    options = parser.parse_args(words)
    code: int = options.run(options)
    return code
