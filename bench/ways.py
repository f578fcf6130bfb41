"""One attack on one network in each way, our stack, a plain loop, breaching: its time, its memory, its compilation.

These functions run in processes of their own, so they take and return plain values.
"""

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench import peer, runners, zoo
from bench.cases import BREACHING, SAME_TV, signs, victims
from bench.clock import device_clock, milliseconds
from bench.isolated import one_line
from bench.memory import extra_megabytes
from gilib.data import Batch
from gilib.federated import Update

LOOP = "loop"
STACKS = (1, 4)
FIRST = 2  # iterations that are not counted: caches fill, kernels are chosen
WINDOW = 4
Victims = tuple[Sequence[Batch], Sequence[Update]]


def ours(stack: int) -> str:
    """The name of our way with so many victims in the stack."""
    return f"ours, stack of {stack}"


def ways() -> dict[str, int]:
    """Every way that can run here, and how many victims one call of it takes."""
    alone = {LOOP: 1, **({BREACHING: 1} if peer.installed() else {})}
    return {ours(stack): stack for stack in STACKS} | alone


def prepared(name: str, device: str) -> tuple[nn.Module, Victims]:
    """The network on its device and as many victims as the largest stack holds; one thread on the CPU."""
    torch.set_num_threads(1)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports a missing GPU
    model = zoo.built(name).to(device)
    return model, victims(model, max(STACKS))


def times(way: str, model: nn.Module, some: Victims, iterations: int, *, compiled: bool = False) -> list[float]:
    """When the iterations of one run ended: of our stack of these victims, or of another way on the first of them."""
    batches, updates = some
    clock = device_clock(str(next(model.parameters()).device))
    if way not in (LOOP, BREACHING):
        return runners.stack(signs(), model, updates, iterations, compiled=compiled, clock=clock)
    with sdpa_kernel(SDPBackend.MATH):  # other kernels of attention have no second derivative; ours sees to it itself
        if way == LOOP:
            return runners.one_by_one(signs(), model, batches[0], updates[0], iterations, clock=clock)
        attack = peer.attacker(model, ("invertinggradients", (SAME_TV,)), iterations=iterations)
        return peer.timed(attack, model, batches[0], updates[0], clock=clock)


def best(ended: Sequence[float]) -> float:
    """Milliseconds an iteration, the first ones left out."""
    return milliseconds(ended[FIRST:], window=WINDOW)


def timing(name: str, device: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds per victim and iteration of every way, the best of all rounds and each round; the ways take turns.

    A plain loop takes about ``seconds`` in a round, the others as many iterations. Ratios are taken within a round:
    the speed of a shared machine changes from minute to minute by more than the ways differ.
    ``passes`` are the forward passes in an iteration of the largest stack: one where it is mapped, one a victim where
    the library loops.
    """
    model, (batches, updates) = prepared(name, device)
    least = FIRST + WINDOW + 1
    once = best(times(LOOP, model, (batches, updates), least)) / 1e3
    iterations = min(60, max(least, int(seconds / once)))
    found: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for way, count in ways().items():
            if way in failed:
                continue
            try:
                ended = times(way, model, (batches[:count], updates[:count]), iterations)
                each = best(ended) / count
                found.setdefault(way, []).append(each)
            except Exception as error:
                failed[way] = one_line(error)
    passes = None if ours(max(STACKS)) in failed else forward_passes(model, updates)
    best_of = {way: min(some) for way, some in found.items()}
    return {"milliseconds": best_of, "rounds": found, "passes": passes, "failed": failed}


def forward_passes(model: nn.Module, updates: Sequence[Update]) -> int:
    """How often the model runs in one iteration of our stack: copies of the model keep counting."""
    runs: list[None] = []
    handle = model.register_forward_pre_hook(lambda module, inputs: runs.append(None))
    counts = []
    for iterations in (1, 2):
        runs.clear()
        runners.stack(signs(), model, updates, iterations)
        counts.append(len(runs))
    handle.remove()
    return counts[1] - counts[0]


def memory(name: str, device: str, way: str) -> float:
    """Megabytes beyond what model and victims take, at the peak of a few iterations on all victims, stack after stack.

    What the way's libraries load at first use is loaded before, by a run on a small network.
    """
    count = ways()[way]
    small, first = prepared("LeNet", device)
    times(way, small, tuple(some[:count] for some in first), 2)
    model, (batches, updates) = prepared(name, device)

    def run() -> None:
        for start in range(0, max(STACKS), count):
            times(way, model, (batches[start : start + count], updates[start : start + count]), 3)

    return extra_megabytes(run, device=device)


def compiled(name: str, device: str, stack: int) -> dict[str, float]:
    """Milliseconds per victim and iteration of our compiled stack, and the processor seconds that compiling took."""
    model, (batches, updates) = prepared(name, device)
    before = processor_seconds()
    import torch._inductor.config as settings

    with settings.patch(compile_threads=1, force_disable_caches=True):
        ended = times(ours(stack), model, (batches[:stack], updates[:stack]), FIRST + WINDOW + 1, compiled=True)
    iteration = best(ended) / 1e3
    spent = processor_seconds() - before - len(ended) * iteration
    return {"milliseconds": 1e3 * iteration / stack, "compile seconds": max(0.0, spent)}


def processor_seconds() -> float:
    """Of this process and of those it has started, the C++ compiler for instance."""
    return sum(os.times()[:4])
