"""Speed and quality of the attacks beside plain double backward and beside breaching: ``make bench``."""

import argparse
import json
import logging
import statistics
from pathlib import Path

from bench import measure
from bench.cases import Case, cases, victims

RESULTS = Path(__file__).with_name("results.json")
QUALITY_VICTIMS = 8


def measured(case: Case, *, quick: bool) -> dict:
    """Everything about one case."""
    batches, updates = victims(case.model, measure.STACK)
    few = 2 if quick else QUALITY_VICTIMS
    rate = measure.matrix_product_rate()
    speeds = measure.speeds(case, batches, updates, iterations=8 if quick else 40, rounds=1 if quick else 3)
    rate = max(rate, measure.matrix_product_rate())
    operations = measure.operations(case, updates[0])
    return {
        "network": case.name,
        "milliseconds": speeds,
        "times faster than breaching": {way: speeds["breaching"] / value for way, value in speeds.items()},
        "targets": case.targets,
        "operations": operations,
        "matrix product GFLOP/s": rate / 1e9,
        "share of the matrix product": {way: operations / (value / 1e3) / rate for way, value in speeds.items()},
        "quality": case.length,
        "psnr": measure.quality(case, batches[:few], updates[:few]),
    }


def show(result: dict) -> None:
    """One case as a table."""
    print(
        f"\n{result['network']}: {result['operations'] / 1e6:.0f} million operations per victim and iteration; "
        f"a matrix product reaches {result['matrix product GFLOP/s']:.0f} GFLOP/s"
    )
    print(f"  {'':24}{'ms':>8}{'faster than breaching':>24}{'of the matrix product':>24}")
    for way, value in result["milliseconds"].items():
        target = f" (target {result['targets'][way]:g})" if way in result["targets"] else ""
        faster = f"{result['times faster than breaching'][way]:.1f}x{target}"
        print(f"  {way:24}{value:8.3f}{faster:>24}{result['share of the matrix product'][way]:24.1%}")
    print(f"  PSNR in dB, {result['quality']}")
    for who, values in result["psnr"].items():
        mean, median = statistics.mean(values), statistics.median(values)
        print(f"  {who:24}mean {mean:5.1f}   median {median:5.1f}   {' '.join(f'{value:.1f}' for value in values)}")


def missed(result: dict) -> list[str]:
    """The targets that this run did not reach."""
    faster, psnr = result["times faster than breaching"], result["psnr"]
    slow = [way for way, target in result["targets"].items() if faster[way] < target]
    worse = ["PSNR"] if statistics.median(psnr["ours"]) < statistics.median(psnr["breaching"]) else []
    return [f"{result['network']}: {name}" for name in slow + worse]


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works; stores nothing")
    quick = parser.parse_args().quick
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports the missing GPU
    machine = measure.machine()
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print(f"{measure.STACK} victims, float32, 32 x 32 colour photographs, milliseconds per victim and iteration")
    results = []
    for case in cases(quick=quick):
        results.append(measured(case, quick=quick))
        show(results[-1])
    targets = [name for result in results for name in missed(result)]
    print("\n" + (f"Missed: {', '.join(targets)}" if targets else "Every target is reached."))
    if not quick:
        RESULTS.write_text(json.dumps({"machine": machine, "cases": results}, indent=2) + "\n")
        print(f"Stored in {RESULTS.relative_to(Path.cwd())}.")


if __name__ == "__main__":
    main()
