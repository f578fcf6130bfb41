"""Clocks: wall time, processor time, and wall time of a device that works on its own."""

import time
from collections.abc import Callable, Sequence

import torch

Clock = Callable[[], float]
wall: Clock = time.perf_counter


def device_clock(device: str) -> Clock:
    """Seconds that say how much was computed: processor time on the CPU, wall time elsewhere.

    Processor time does not count what other programs compute meanwhile. A card works on after Python has gone on, so
    its clock waits until it has finished.
    """
    if torch.device(device).type == "cpu":
        return time.process_time

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited


def milliseconds(times: Sequence[float], *, window: int) -> float:
    """The best mean over ``window`` iterations in a row: other work on the machine only ever slows one down.

    Raises ValueError for fewer than ``window + 1`` times.
    """
    if len(times) <= window:
        raise ValueError(f"a window of {window} iterations needs {window + 1} times; got {len(times)}.")
    spans = [times[index + window] - times[index] for index in range(len(times) - window)]
    return 1e3 * min(spans) / window
