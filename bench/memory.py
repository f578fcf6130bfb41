"""How much memory a computation takes beyond what was in use before it."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

MB = 2**20
PROC = Path("/proc/self")


def extra_megabytes(run: Callable[[], object], *, device: str = "cpu") -> float:
    """The peak during ``run()`` beyond the start: of this process, or of what PyTorch has allocated on the card.

    On Linux the process's earlier peak is forgotten first; elsewhere a computation that stays below it seems smaller
    than it is.
    """
    if torch.device(device).type != "cpu":
        return _extra_on_card(run, device)
    if (PROC / "clear_refs").exists():
        (PROC / "clear_refs").write_text("5")
    start = psutil.Process().memory_info().rss
    run()
    return max(0, _peak() - start) / MB


def _extra_on_card(run: Callable[[], object], device: str) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    start = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - start) / MB


def _peak() -> int:
    """The largest resident memory of this process, in bytes."""
    if (PROC / "status").exists():
        [line] = [line for line in (PROC / "status").read_text().splitlines() if line.startswith("VmHWM:")]
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
