"""Where the studies compute: the processor, or a card with ``python -m bench.studies --device cuda``.

The choice is no setting of a cell. A result says where it was computed, and the tests compare a sample of all results
with the processor's.
"""

import os

import torch

VARIABLE = "GILIB_STUDIES_DEVICE"
"""Worker processes inherit it; those of a Dask cluster have to be started with it."""


def use(name: str) -> None:
    """Let this process and its workers compute on ``cpu`` or ``cuda``."""
    os.environ[VARIABLE] = name


def device() -> torch.device:
    """Where to compute. On a card all numbers have their 32 bits: no shorter products."""
    chosen = torch.device(os.environ.get(VARIABLE, "cpu"))
    if chosen.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return chosen


def place() -> dict[str, str]:
    """What a result says of the card that it was computed on; nothing for the processor."""
    chosen = device()
    return {"card": torch.cuda.get_device_name(chosen)} if chosen.type == "cuda" else {}
