"""The command line of the audit: files in, a table, two files and an exit code out."""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gilib
from gilib import metrics
from gilib.audit.given import given
from gilib.audit.page import page
from gilib.audit.received import received
from gilib.audit.report import Report, schema
from gilib.audit.run import audit
from gilib.audit.settings import KNOWN, Settings
from gilib.audit.target import Target, load_target

QUICK = 15.0
"""Seconds of ``--quick``, which leaves some for starting."""
EXAMPLE = "gilib audit target.py --images photographs/ --size 32 --batch 4"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the audit to the commands of the library."""
    parser = commands.add_parser(
        "audit",
        help="does my federation leak?",
        description="Attack a few clients of your own, and say what came back. Exit code: 0 nothing found, 1 labels, "
        "features or some names, 2 images (or, with no report, a wrong command line), 3 no answer because the attacks "
        f"could not tell, 4 an error of this program, 130 interrupted. Example: {EXAMPLE}",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the audit."""
    parser.add_argument("--schema", action=_Schema, help="print the JSON schema of audit.json, and end")
    parser.add_argument(
        "target", type=Path, help="a Python file with model(), and perhaps client(model), untrained(), generator()"
    )
    what = parser.add_argument_group("what is audited")
    what.add_argument(
        "--images",
        required=True,
        help="a folder of your own images, one folder a class; a file of tensors (.pt); or a data set: digits, photos",
    )
    what.add_argument("--size", type=int, help="scale images to so many pixels a side")
    what.add_argument("--grey", action="store_true", help="one channel: the mean of the colours")
    what.add_argument("--batch", type=int, default=1, help="images of a client (default: 1)")
    what.add_argument("--victims", type=int, default=4, help="how many clients are tried (default: 4)")
    what.add_argument("--before", type=Path, help="weights that a client received: a file of torch.save(state_dict)")
    what.add_argument("--after", type=Path, help="weights that the client sent back; its images come first in --images")
    knows = parser.add_argument_group("what the server knows")
    knows.add_argument(
        "--threat",
        choices=tuple(KNOWN),
        default="C",
        help="threat model: " + "; ".join(f"{letter} {said}" for letter, said in KNOWN.items()) + " (default: C)",
    )
    knows.add_argument("--public", help="images of the kind, like --images, for threat models D and E")
    counts = parser.add_argument_group("what counts")
    counts.add_argument("--recovered", type=float, default=metrics.RECOVERED, help="PSNR of a leak (default: 25)")
    counts.add_argument("--named", type=float, default=0.5, help="share of named images that is a leak (default: 0.5)")
    how = parser.add_argument_group("how long, and where to")
    time = how.add_mutually_exclusive_group()
    time.add_argument("--seconds", type=float, default=Settings.seconds, help="time for everything (default: 90)")
    time.add_argument("--quick", action="store_true", help=f"take {QUICK:.0f} seconds")
    time.add_argument(
        "--iterations", type=int, help="of the chosen search, instead of a time: the same report on every machine"
    )
    how.add_argument("--seed", type=int, default=0, help="of the searches (default: 0)")
    how.add_argument("--out", type=Path, default=Path("audit"), help="folder of the report (default: audit)")


def run(options: argparse.Namespace) -> int:
    """Audit, print and write the report, and return the exit code.

    A wrong input gives a sentence and 2; an error of ours its traceback and 4, which no verdict has.
    """
    try:
        settings = Settings(
            seconds=QUICK if options.quick else options.seconds,
            iterations=options.iterations,
            threat=options.threat,
            recovered=options.recovered,
            named=options.named,
            seed=options.seed,
        )
        report = audit(_target(options, settings), settings, progress=_Bar())
    except (ValueError, OSError) as error:
        print(f"\ngilib audit: {error}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        print("gilib audit: this is an error of the program, or of the target's own code; no verdict.", file=sys.stderr)
        return 4
    if sys.stderr.isatty():
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


def _target(options: argparse.Namespace, settings: Settings) -> Target:
    if (options.before is None) != (options.after is None):
        raise ValueError("--before and --after belong together: the weights received, and those sent back.")
    if options.public is not None and not settings.surrogate:
        raise ValueError(f"--public is for a server with such images: --threat D or E, not {settings.threat}.")
    form = {"size": options.size, "grey": options.grey}
    images = given(options.images, **form)
    public = None if options.public is None else given(options.public, **form)
    if options.before is None:
        return load_target(options.target, images, batch=options.batch, victims=options.victims, public=public)
    target = load_target(options.target, images, batch=options.batch, victims=1, public=public)
    return received(target, options.before, options.after)


class _Schema(argparse.Action):
    """Prints the schema of the report, and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(schema(), end="")
        parser.exit()


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
