"""Speed and quality of the attacks beside plain double backward and beside breaching: ``make bench``."""

import argparse
import json
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import measure, peer
from bench.cases import BREACHING, Case, cases, victims

RESULTS = Path(__file__).with_name("results.json")
STACK, QUALITY_VICTIMS = 16, 8
Result = dict[str, Any]


def measured(case: Case, *, quick: bool) -> Result:
    """Everything about one case. Without the peer, what compares with it is empty."""
    stack, few, side = (4, 2, 16) if quick else (STACK, QUALITY_VICTIMS, 32)
    batches, updates = victims(case.model, stack, size=side)
    matrix = 512 if quick else 2048
    rate = measure.matrix_product_rate(size=matrix)
    iterations, rounds = (8, 1) if quick else (40, 3)
    speeds = measure.speeds(case, (batches, updates), iterations=iterations, rounds=rounds, compiled=not quick)
    rate = max(rate, measure.matrix_product_rate(size=matrix))
    operations = measure.operations(case, batches[0], updates[0])
    theirs = speeds.get(BREACHING)
    return {
        "network": case.name,
        "milliseconds": speeds,
        "times faster than breaching": {way: theirs / value for way, value in speeds.items()} if theirs else {},
        "targets": case.targets,
        "operations": operations,
        "matrix product GFLOP/s": rate / 1e9,
        "share of the matrix product": {way: operations / (value / 1e3) / rate for way, value in speeds.items()},
        "quality": case.length,
        "psnr": measure.quality(case, (batches[:few], updates[:few])),
    }


def show(result: Result) -> None:
    """One case as a table."""
    print(
        f"\n{result['network']}: {result['operations'] / 1e6:.0f} million operations per victim and iteration; "
        f"a matrix product reaches {result['matrix product GFLOP/s']:.0f} GFLOP/s"
    )
    print(f"  {'':24}{'ms':>8}{'faster than breaching':>24}{'of the matrix product':>24}")
    for way, value in result["milliseconds"].items():
        target = f" (target {result['targets'][way]:g})" if way in result["targets"] else ""
        times = result["times faster than breaching"].get(way)
        faster = peer.MISSING if times is None else f"{times:.1f}x{target}"
        print(f"  {way:24}{value:8.3f}{faster:>24}{result['share of the matrix product'][way]:24.1%}")
    print(f"  PSNR in dB, {result['quality']}")
    for who, values in result["psnr"].items():
        mean, median = statistics.mean(values), statistics.median(values)
        print(f"  {who:24}mean {mean:5.1f}   median {median:5.1f}   {' '.join(f'{value:.1f}' for value in values)}")
    if not peer.installed():
        print(f"  {BREACHING:24}{peer.MISSING}")


def missed(result: Result) -> list[str]:
    """The targets that this run did not reach: speeds, and a median PSNR no lower than any of breaching's."""
    faster = result["times faster than breaching"]
    slow = [way for way, target in result["targets"].items() if way in faster and faster[way] < target]
    medians = {who: statistics.median(values) for who, values in result["psnr"].items()}
    worse = [f"PSNR against {who}" for who, median in medians.items() if medians["ours"] < median]
    return [f"{result['network']}: {name}" for name in slow + worse]


def main(arguments: Sequence[str] | None = None) -> list[Result]:
    """Measure, print, store; returns what it measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="seconds, to see that it works; small, nothing compiled or stored"
    )
    quick = parser.parse_args(arguments).quick
    if not quick and not peer.installed():
        parser.error("the stored results compare with the peer library breaching. Run 'make bench', or use --quick.")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports the missing GPU
    machine = measure.machine()
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print(f"float32, colour photographs of {16 if quick else 32} pixels, milliseconds per victim and iteration")
    results = []
    for case in cases(quick=quick):
        results.append(measured(case, quick=quick))
        show(results[-1])
    if quick:
        print("\nQuick: nothing is stored, and targets are for the full run.")
    else:
        targets = [name for result in results for name in missed(result)]
        print("\n" + (f"Missed: {', '.join(targets)}" if targets else "Every target is reached."))
        RESULTS.write_text(json.dumps({"machine": machine, "cases": results}, indent=2) + "\n")
        print(f"Stored in {RESULTS}.")
    return results


if __name__ == "__main__":
    main()
