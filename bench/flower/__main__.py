"""Record all federations: ``.venv-flower/bin/python -m bench.flower``, which writes kept.npz and kept.json."""

import json
import platform
from dataclasses import asdict
from typing import Any

import flwr
import numpy as np
import torch

from bench.flower.federations import costs, federations
from bench.flower.record import recorded
from bench.flower.stored import HERE, changed_bits
from bench.flower.task import accuracy


def main() -> None:
    """Run every federation; write each vector of numbers once, and beside them what else is known."""
    torch.set_num_threads(1)
    vectors = Vectors()
    about: dict[str, Any] = {"versions": versions(), "federations": {}, "costs": {}}
    for name, federation in federations().items():
        found = recorded(federation)
        rows = [vectors.stored(row) for row in found.rows]
        about["federations"][name] = {"settings": asdict(federation), "rows": rows, "messages": found.messages}
        print(f"{name}: {len(rows)} kept", flush=True)
    for name, federation in costs().items():
        found = recorded(federation)
        right = accuracy(found.last)
        about["costs"][name] = {"settings": asdict(federation), "accuracy": right, "bytes": found.bytes}
        print(f"{name}: accuracy {right:.0%}, {found.bytes:,} bytes a client and round", flush=True)
    np.savez_compressed(HERE / "kept.npz", **vectors.by_name)
    (HERE / "kept.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


class Vectors:
    """Vectors under short names, each stored once however often it was sent."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self._names: dict[bytes, str] = {}

    def stored(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with names in the place of vectors; weights sent back are stored as what changed in their bits."""
        change = {"after": changed_bits(row["before"], row["after"])} if "after" in row else {}
        return {
            key: self._named(value) if isinstance(value, np.ndarray) else value for key, value in (row | change).items()
        }

    def _named(self, vector: Any) -> str:
        name = self._names.setdefault(vector.tobytes(), f"v{len(self._names)}")
        self.by_name[name] = vector
        return name


def versions() -> dict[str, str]:
    """Of what computed the file."""
    found = {"flwr": flwr.__version__, "torch": torch.__version__, "numpy": np.__version__}
    return found | {"python": platform.python_version()}


if __name__ == "__main__":
    main()
