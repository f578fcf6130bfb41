"""Seconds and bytes of secure aggregation: ``python -m bench.secure_aggregation`` (two to three minutes, one thread).

All clients and the server run on this machine, one after another. Every client has a LeNet's update of one photograph,
half of the clients may collude, and a fifth drops out after sharing, before the upload. Seconds are processor
time, the best of four rounds; they count neither the client's training nor its rounding to whole numbers.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gilib import data, models
from gilib.defenses.aggregation_messages import Agreement, flat
from gilib.defenses.encryption import FixedPoint
from gilib.defenses.secure_aggregation import PROTOCOLS, Protocol, aggregate
from gilib.federated import Client

RESULTS = Path(__file__).with_name("secure_aggregation.json")
CLIENTS = (10, 25, 50, 100, 200)
CODEC = FixedPoint(bits=23, bound=8.0, clients=200)
NUMBERS = 15_826
SEAL = 12 + 16  # nonce and tag


def updates(count: int) -> list[torch.Tensor]:
    """The updates of ``count`` clients, one photograph each."""
    model, photos = models.lenet(bound=0.1).double(), data.load("photos")
    return [flat(Client(model).update(photos.batch(index))) for index in range(count)]


def agreement(clients: int) -> Agreement:
    """Half may collude; four fifths are needed."""
    return Agreement(NUMBERS, clients, clients // 2, clients * 4 // 5, CODEC)


def row(protocol: Protocol, values: list[torch.Tensor], *, rounds: int = 1) -> dict[str, Any]:
    """What a client that stays sends and computes, what the server computes, and the error of the sum."""
    agreed = agreement(len(values))
    lost = dict.fromkeys(range(agreed.clients - agreed.needed), "upload")
    played = [aggregate(protocol, agreed, values, lost=lost) for _ in range(rounds)]
    found = played[0]
    plain = torch.stack([values[client] for client in found.members]).sum(dim=0)
    kinds = dict(found.sent[agreed.clients - 1])
    return {
        "protocol": protocol.name,
        "clients": agreed.clients,
        "members": len(found.members),
        "kinds": kinds,
        "bytes": sum(kinds.values()),
        "client seconds": min(one.seconds["client"] for one in played),
        "server seconds": min(one.seconds["server"] for one in played),
        "error": float((found.sums - plain).abs().max()),
    }


def predicted_bytes(name: str, clients: int) -> int:
    """What a client that stays sends, counted from the messages."""
    agreed = agreement(clients)
    piece = 4 * -(-NUMBERS // agreed.packed)
    letter, upload, answer = {
        "masking": (4 * 32, 4 * NUMBERS, 4 * 16 * clients),
        "fast": (piece, 0, piece),
        "light": (piece, 4 * NUMBERS, piece),
    }[name]
    return 64 + (clients - 1) * (SEAL + letter) + upload + answer


def measured(counts: Sequence[int], *, rounds: int) -> dict[str, Any]:
    """Every protocol with so many clients, the best of so many rounds; prints each row."""
    values = updates(max(counts))
    for protocol in PROTOCOLS.values():
        row(protocol, values[:5])  # what is imported and compiled at first use is not timed
    rows = []
    for protocol in PROTOCOLS.values():
        for clients in counts:
            rows.append(row(protocol, values[:clients], rounds=rounds))
            one = rows[-1]
            print(
                f"{one['protocol']:8}{clients:4} clients{one['bytes']:9,} bytes{one['client seconds']:8.4f} s a client"
                f"{one['server seconds']:8.3f} s server  error {one['error']:.1e}"
            )
    return {"numbers": NUMBERS, "step": CODEC.step, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, store; returns what it measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.secure_aggregation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it works; stores nothing")
    quick = parser.parse_args(arguments).quick
    torch.set_num_threads(1)
    found = measured(CLIENTS[:1], rounds=1) if quick else measured(CLIENTS, rounds=4)
    if not quick:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return found


if __name__ == "__main__":
    main()
