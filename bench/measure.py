"""How long an iteration takes, how many operations it needs, and what the machine can do at best."""

import os
import platform
import time
from collections.abc import Callable, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import peer, runners
from bench.cases import BREACHING, Case
from bench.clock import milliseconds
from gilib import metrics
from gilib.data import Batch
from gilib.federated import Update

WINDOW = 6  # iterations
Victims = tuple[Sequence[Batch], Sequence[Update]]


def speeds(case: Case, victims: Victims, *, iterations: int, rounds: int, compiled: bool = True) -> dict[str, float]:
    """Milliseconds per victim and iteration of every way, the best of all rounds; the ways take turns."""
    batches, updates = victims

    def each(run: Callable[[Batch, Update], Sequence[float]]) -> float:
        return min(milliseconds(run(*pair), window=WINDOW) for pair in zip(batches, updates, strict=True))

    def together(compiled: bool) -> float:
        times = runners.stack(case.timed, case.model, updates, iterations, compiled=compiled)
        return milliseconds(times, window=WINDOW) / len(updates)

    ways = {
        "one by one": lambda: each(lambda b, u: runners.one_by_one(case.timed, case.model, b, u, iterations)),
        "stack": lambda: together(False),
    }
    if compiled:
        ways["compiled"] = lambda: together(True)
    if peer.installed():
        attack = peer.attacker(case.model, case.peer, iterations=iterations)
        ways[BREACHING] = lambda: each(lambda b, u: peer.timed(attack, case.model, b, u))
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            found[way].append(measure())
    return {way: min(values) for way, values in found.items()}


def quality(case: Case, victims: Victims) -> dict[str, list[float]]:
    """PSNR of each victim, the same number of iterations: our recipe, and breaching's in each of its settings."""
    batches, updates = victims
    ours = case.quality.reconstruct_many(case.model, updates)
    images = {"ours": [one.images for one in ours]}
    for name, settings in case.peer_quality.items() if peer.installed() else ():
        attack = peer.attacker(case.model, settings)
        torch.manual_seed(0)
        images[name] = [peer.run(attack, case.model, *pair) for pair in zip(batches, updates, strict=True)]
    return {
        name: [float(metrics.psnr(one, batch.images)) for one, batch in zip(found, batches, strict=True)]
        for name, found in images.items()
    }


def operations(case: Case, batch: Batch, update: Update) -> float:
    """Floating-point operations of one iteration for one victim: its convolutions and matrix products.

    They are counted in the plain double backward, which computes what every other way computes.
    """
    candidate = runners.start(case.model, batch)
    with FlopCounterMode(display=False) as counter:
        value = runners.objective(
            case.timed, case.model, dict(case.model.named_parameters()), update, candidate, batch.labels
        )
        value.backward(inputs=[candidate])
    return float(counter.get_total_flops())


def matrix_product_rate(*, size: int = 2048, repetitions: int = 12) -> float:
    """Operations per second that a square float32 matrix product reaches, the best of several."""
    left, right = torch.rand(2, size, size)
    best = float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def machine() -> dict[str, object]:
    """Where the numbers come from."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": str(torch.__version__).split("+")[0],
    }


def card(device: str) -> dict[str, object]:
    """The accelerator, where there is one."""
    return {"card": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
