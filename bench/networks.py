"""A table of networks: our stack beside a plain loop and breaching: ``python -m bench.networks``.

One attack (cosine, total variation 1e-3, signed Adam) on one photograph a victim, label known. On the CPU the times are
processor time of one thread, so that other work on the machine disturbs little; with ``--device cuda`` wall time.
Memory is the peak beyond model and victims: on the CPU each way in a process of its own, on a card what PyTorch has
allocated there.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench import measure, peer, ways, zoo
from bench.cases import BREACHING
from bench.isolated import FailedError, here, isolated
from bench.memory import MB
from bench.ways import LOOP, STACKS, ours

QUICK = ("LeNet", "GRU over rows")
OF_LOOP, OF_BREACHING = 0.95, 1.0  # targets: times faster than these, on every row
SLACK = (1.25, 32.0)  # memory where the library loops: at most the loop's times this, plus megabytes, plus a copy
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Where and how long to measure; ``limit`` in processor seconds ends a compilation that takes too long.

    ``call`` runs what is timed, ``apart`` what has to be stopped at the limit.
    """

    device: str = "cpu"
    rounds: int = 7
    seconds: float = 0.4
    compiled: bool = True
    limit: int = 300
    call: Callable[..., Any] = isolated
    apart: Callable[..., Any] = isolated


def measured(name: str, settings: Settings) -> Row:
    """Everything about one network. What failed is in ``failed``, with the reason."""
    device, call = settings.device, settings.call
    row: Row = {"network": name, "parameters": sum(p.numel() for p in zoo.built(name).parameters())}
    row |= call(ways.timing, name, device, settings.rounds, settings.seconds)
    row |= {"memory": {}, "compiled": {}}
    for way in row["milliseconds"]:
        attempt(row, "memory", way, lambda way=way: call(ways.memory, name, device, way))
    if settings.compiled:
        # Where the library loops it compiles the step of one victim, whatever the stack.
        stack = 1 if row["passes"] in (None, max(STACKS)) else max(STACKS)
        limit = settings.limit
        attempt(row, "compiled", ours(stack), lambda: settings.apart(ways.compiled, name, device, stack, seconds=limit))
    return row | ratios(row["rounds"])


def attempt(row: Row, what: str, way: str, run: Callable[[], Any]) -> None:
    """Keep what ``run`` returns, or why it failed."""
    try:
        row[what][way] = run()
    except FailedError as error:
        row["failed"][f"{what}: {way}"] = str(error)


def ratios(rounds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """How many times faster than the loop and than breaching each of our stacks is: the median over the rounds."""
    stacks = [ours(stack) for stack in STACKS if ours(stack) in rounds]
    return {
        f"times faster than {other}": {
            # a way that fails stops in its round, and the others go on
            way: median(theirs / mine for theirs, mine in zip(rounds[other], rounds[way], strict=False))
            for way in stacks
        }
        for other in (LOOP, BREACHING)
        if other in rounds
    }


def missed(row: Row) -> list[str]:
    """The targets that this row does not reach; a way of ours that failed is one."""
    found = [f"{way} fails" for way in map(ours, STACKS) if way not in row["milliseconds"]]
    for other, target in ((LOOP, OF_LOOP), (BREACHING, OF_BREACHING)):
        for way, ratio in row.get(f"times faster than {other}", {}).items():
            found += [f"{way} {ratio:.2f} of {other}"] if ratio < target else []
    loops, memory = row["passes"] == max(STACKS), row["memory"]
    factor, more = SLACK
    copy = 4 * row["parameters"] / MB  # of the model: ours never works on the caller's own
    for way in map(ours, STACKS) if loops and LOOP in memory else ():
        if way in memory and memory[way] > factor * memory[LOOP] + more + copy:
            found.append(f"{way} {memory[way]:.0f} MB, loop {memory[LOOP]:.0f}")
    return [f"{row['network']}: {what}" for what in found]


def heading() -> str:
    """The first lines of the table."""
    columns = "".join(f"{name:>10}" for name in ("ours x1", "ours x4", LOOP, BREACHING))
    return (
        f"{'':33}  {'milliseconds per victim and iteration':^40}{'':>11}{'compiled':>18}"
        f"  {'memory beyond the start, MB':^40}\n{'network':22}{'parameters':>11}  {columns}{'x4 is':>11}"
        f"{'ms (seconds)':>18}  {columns}"
    )


def line(row: Row) -> str:
    """One row of the table."""
    order = [*map(ours, STACKS), LOOP, BREACHING]
    compiled = "".join(
        f"{way[-2:].replace(' ', 'x')} {one['milliseconds']:.2f} ({one['compile seconds']:.0f})"
        for way, one in row["compiled"].items()
    )
    passes = {1: "mapped", max(STACKS): "looped", None: "-"}.get(row["passes"], f"{row['passes']} passes")
    return (
        f"{row['network']:22}{row['parameters']:11,}  {numbers(row['milliseconds'], order, 2)}{passes:>11}"
        f"{compiled or '-':>18}  {numbers(row['memory'], order, 0)}"
    )


def numbers(values: dict[str, float], order: Sequence[str], digits: int) -> str:
    """A few columns, empty where a way has no number."""
    return "".join(f"{values[way]:10.{digits}f}" if way in values else f"{'-':>10}" for way in order)


def results(device: str) -> Path:
    """Where the rows of a device are stored."""
    return Path(__file__).with_name("networks.json" if device == "cpu" else f"networks-{device}.json")


def store(rows: Sequence[Row], settings: Settings) -> None:
    """Put these rows in place of the stored ones of the same name, in the order of the table."""
    path = results(settings.device)
    kept = {row["network"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}
    kept |= {row["network"]: row for row in rows}
    ordered = [kept[name] for name in zoo.networks() if name in kept]
    path.write_text(json.dumps({"machine": machine(settings.device), "rows": ordered}, indent=2) + "\n")


def machine(device: str) -> dict[str, object]:
    """Where the numbers come from."""
    return measure.machine() | {"threads": 1} | ({} if device == "cpu" else measure.card(device))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.networks", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it works; stores nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=tuple(zoo.networks()), metavar="NETWORK", help="these rows only")
    parser.add_argument("--rounds", type=int, default=7, help="the median of so many counts")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no card here. Leave --device out to measure on the CPU.")
    if not asked.quick and not peer.installed():
        parser.error("the stored table compares with breaching. Run .venv-bench/bin/python, or use --quick.")
    return asked


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, store after each row; returns the rows."""
    asked = parsed(arguments)
    settings = Settings(asked.device, asked.rounds, compiled=not asked.eager)
    if asked.device == "cuda":
        settings = replace(settings, call=here)  # the card's memory is counted by PyTorch: no process of its own
    if asked.quick:
        settings = Settings(asked.device, rounds=1, seconds=0.0, compiled=False, call=here)
    print(heading())
    rows = []
    for name in asked.only or (QUICK if asked.quick else zoo.networks()):
        rows.append(measured(name, settings))
        print(line(rows[-1]), flush=True)
        for what, why in rows[-1]["failed"].items():
            print(f"  {what}: {why}")
        if not asked.quick:
            store(rows, settings)
    if not peer.installed():
        print(f"{BREACHING}: {peer.MISSING}")
    targets = [what for row in rows for what in missed(row)]
    print("\n".join(["Missed:", *targets]) if targets else "Every target is reached.")
    return rows


if __name__ == "__main__":
    main()
