"""Compute what the results of the studies lack: ``python -m bench.studies [NAME ...]`` (see ``--help``)."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.studies.device import use
from gilib.studies import Cell, carry_out
from gilib.studies.command import parser

NAMES = (
    "first_leak",
    "matching",
    "training",
    "labels",
    "priors",
    "generative",
    "limits",
    "local_training",
    "gradient",
    "privacy",
    "distributed_privacy",
    "audit",
    "discrete",
)
RESULTS = Path(__file__).parent / "results"


def cells(name: str) -> Sequence[Cell]:
    """The cells of a study."""
    found: Sequence[Cell] = importlib.import_module(f"bench.studies.{name}").CELLS
    return found


def path(name: str) -> Path:
    """Where the results of a study are kept."""
    return RESULTS / f"{name}.jsonl"


def main(words: list[str] | None = None) -> int:
    """Run what is missing, one study after another, and say what happens."""
    options = parser("bench.studies", "What the book's chapters show at a larger scale, mostly at 32 x 32 pixels.")
    options.add_argument("names", nargs="*", metavar="NAME", help=f"all of {', '.join(NAMES)} unless given")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to search (default: cpu)")
    chosen = options.parse_args(words)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        options.error("PyTorch finds no card here. Leave --device out to compute on the processor.")
    use(chosen.device)
    if unknown := set(chosen.names) - set(NAMES):
        options.error(f"no study is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in chosen.names or NAMES:
        print(f"{name}:", flush=True)
        if code := carry_out(cells(name), path(name), chosen):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
