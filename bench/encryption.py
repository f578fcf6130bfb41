"""Seconds, bytes and errors of encrypted updates: ``python -m bench.encryption`` (two to three minutes, one thread).

Two clients encrypt a LeNet's update of one photograph, the server adds, the key holder decrypts. Where gmpy2 is
installed, Paillier is measured with and without it; ``phe`` takes it by itself.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import phe.util
import torch

from gilib import data, models
from gilib.defenses.encryption import FixedPoint, ckks_keys, paillier_keys
from gilib.federated import Client, Update

RESULTS = Path(__file__).with_name("encryption.json")
CODEC = FixedPoint(bits=20, bound=8.0, clients=8)
CLIENTS = 2
SAMPLE = 20  # numbers that are timed where each has a ciphertext of its own; their time is scaled up
BITS, DEGREES = (1024, 2048, 3072), (4096, 8192)


def updates() -> list[Update]:
    """The updates of two clients, one photograph each: 15,826 numbers."""
    model, photos = models.lenet(bound=0.1).double(), data.load("photos")
    return [Client(model).update(photos.batch(index)) for index in range(CLIENTS)]


def shortened(update: Update, count: int) -> Update:
    """The same kind of update with only the first ``count`` numbers."""
    flat = torch.cat([value.flatten() for value in update.gradients.values()])
    return Update({"first": flat[:count]}, batch_size=1, image_shape=update.image_shape)


def error(mean: Update, sent: list[Update]) -> float:
    """The largest error of the decrypted mean."""
    return max(
        float((value - sum(one.gradients[name] for one in sent) / len(sent)).abs().max())
        for name, value in mean.gradients.items()
    )


def timed(step: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the step returns."""
    start = time.perf_counter()
    result = step()
    return time.perf_counter() - start, result


def row(name: str, public: Any, secret: Any, sent: list[Update], *, scale: float = 1.0) -> dict[str, Any]:
    """One way to encrypt: per client to encrypt, per client to add, once to decrypt."""
    encrypt, messages = timed(lambda: [public.encrypt(update) for update in sent])
    add, total = timed(lambda: public.add(messages))
    decrypt, mean = timed(lambda: secret.decrypt(total))
    return {
        "name": name,
        "blocks": round(len(messages[0].blocks) * scale),
        "bytes": round(messages[0].size * scale),
        "encrypt seconds": encrypt / CLIENTS * scale,
        "add seconds": add / CLIENTS * scale,
        "decrypt seconds": decrypt * scale,
        "error": error(mean, sent),
    }


def paillier_rows(sent: list[Update], *, apart: int = 2048, lengths: Sequence[int] = BITS) -> list[dict[str, Any]]:
    """One number a ciphertext at ``apart`` bits, and packed at several key lengths; with gmpy2 too where it is."""
    here, rows, numbers = phe.util.HAVE_GMP, [], sum(value.numel() for value in sent[0].gradients.values())
    few = [shortened(update, SAMPLE) for update in sent]
    for gmp in (False, True) if here else (False,):
        phe.util.HAVE_GMP = gmp
        suffix = ", gmpy2" if gmp else ""
        keys = paillier_keys(CODEC, bits=apart, slots=1)
        rows.append(row(f"Paillier {apart}, unpacked{suffix}", *keys, few, scale=numbers / SAMPLE))
        for bits in lengths:
            rows.append(row(f"Paillier {bits}{suffix}", *paillier_keys(CODEC, bits=bits), sent))
    phe.util.HAVE_GMP = here
    return rows


def ckks_rows(sent: list[Update], *, degrees: Sequence[int] = DEGREES) -> list[dict[str, Any]]:
    """Several ring degrees at the same scale."""
    return [row(f"CKKS {degree}", *ckks_keys(degree=degree), sent) for degree in degrees]


def measured(*, quick: bool) -> dict[str, Any]:
    """Everything; quick takes short updates, one short key and one ring."""
    sent = updates()
    if quick:
        sent = [shortened(update, 10 * SAMPLE) for update in sent]
        rows = paillier_rows(sent, apart=1024, lengths=BITS[:1]) + ckks_rows(sent, degrees=DEGREES[:1])
    else:
        rows = paillier_rows(sent) + ckks_rows(sent)
    return {"numbers": sum(value.numel() for value in sent[0].gradients.values()), "step": CODEC.step, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, store; returns what it measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.encryption", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it works; stores nothing")
    quick = parser.parse_args(arguments).quick
    torch.set_num_threads(1)
    found = measured(quick=quick)
    for one in found["rows"]:
        print(f"{one['name']:32}{one['bytes']:12,} bytes{one['encrypt seconds']:10.3f} s  error {one['error']:.1e}")
    if not quick:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return found


if __name__ == "__main__":
    main()
