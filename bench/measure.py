"""How long an iteration takes, how many operations it needs, and what the machine can do at best."""

import os
import platform
import time
from collections.abc import Callable, Sequence

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from bench import peer, runners
from bench.cases import Case
from gilib import metrics
from gilib.data import Batch
from gilib.federated import Update
from gilib.iteration.objective import Problem, evaluator

STACK = 16
WINDOW = 6  # iterations


def milliseconds(times: Sequence[float]) -> float:
    """The best mean over ``WINDOW`` iterations in a row: other work on the machine only ever slows one down."""
    spans = [times[index + WINDOW] - times[index] for index in range(len(times) - WINDOW)]
    return 1e3 * min(spans) / WINDOW


def speeds(case: Case, batches: Sequence[Batch], updates: Sequence[Update], *, iterations: int, rounds: int) -> dict:
    """Milliseconds per victim and iteration of every way, the best of all rounds; the ways take turns."""
    attack = peer.attacker(case.model, case.peer, iterations=iterations)

    def each(run: Callable[[Batch, Update], Sequence[float]]) -> float:
        return min(milliseconds(run(batch, update)) for batch, update in zip(batches, updates, strict=True))

    def together(compiled: bool) -> float:
        times = runners.stack(case.timed, case.model, updates, iterations, compiled=compiled)
        return milliseconds(times) / len(updates)

    ways = {
        "one by one": lambda: each(lambda b, u: runners.one_by_one(case.timed, case.model, b, u, iterations)),
        "stack": lambda: together(False),
        "compiled": lambda: together(True),
        "breaching": lambda: each(lambda b, u: peer.timed(attack, case.model, b, u)),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            found[way].append(measure())
    return {way: min(values) for way, values in found.items()}


def quality(case: Case, batches: Sequence[Batch], updates: Sequence[Update]) -> dict[str, list[float]]:
    """PSNR of each victim: our recipe and breaching's, each with its own defaults, the same number of iterations."""
    ours = case.quality.reconstruct_many(case.model, updates)
    attack = peer.attacker(case.model, case.peer_quality)
    torch.manual_seed(0)
    theirs = [peer.run(attack, case.model, batch, update) for batch, update in zip(batches, updates, strict=True)]
    return {
        "ours": [float(metrics.psnr(one.images, batch.images)) for one, batch in zip(ours, batches, strict=True)],
        "breaching": [float(metrics.psnr(one, batch.images)) for one, batch in zip(theirs, batches, strict=True)],
    }


def operations(case: Case, update: Update) -> float:
    """Floating-point operations of one iteration for one victim: its convolutions and matrix products."""
    problem = Problem.of(case.model, [update], labels=case.timed.labels, restarts=1)
    evaluate = evaluator(problem, matching=case.timed.matching, priors=case.timed.priors)
    candidate = problem.reference.new_full((1, problem.pixels), 0.5)
    graph = make_fx(evaluate)(candidate)  # the counter does not see through torch.func, but it sees a traced graph
    with FlopCounterMode(display=False) as counter:
        graph(candidate)
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
