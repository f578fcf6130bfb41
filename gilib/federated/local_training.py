"""What client and server agree that a client does with its data before it shares anything."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Literal

import torch
from torch import Tensor

Order = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, repr=False)
class LocalTraining:
    """What a client does between receiving the model and sending its update, agreed with the server.

    ``steps`` steps of size ``learning_rate``, or as many as ``epochs`` passes over the data take; one step unless
    either is given. With ``batch_size=None`` each step uses the whole batch (one step is FedSGD, several are FedAvg).
    Otherwise an epoch is cut into batches of ``batch_size`` samples; the last one is smaller where they do not divide,
    or left out with ``drop_last``. Samples come in the order in which the client holds them. ``order`` is another one,
    known to the server: a row of indices, or one row for each epoch. With ``shuffle`` the client draws an order for
    each epoch, which the server does not know: an attack then supposes the plain order.

    With ``clip``, the gradient of every sample is scaled down to at most that norm (over all parameters) before a step
    averages them. ``optimizer`` is "sgd" (with ``momentum``, ``dampening`` and ``nesterov``), "adam" or "adamw" (with
    ``betas`` and ``eps``); ``weight_decay`` is added to the gradient, by "adamw" to the step. Names and formulas are
    those of `torch.optim`. A client begins every round with a fresh optimizer. Raises ValueError for values out of
    range and for settings that contradict each other.

    Source: McMahan et al. (2017), algorithm 1; the clipping of Abadi et al. (2016), algorithm 1. Taught in:
    foundations/federated_learning, defenses/privacy.
    """

    steps: int | None = None
    learning_rate: float = 0.1
    batch_size: int | None = None
    clip: float | None = None
    epochs: int | None = field(default=None, kw_only=True)
    drop_last: bool = field(default=False, kw_only=True)
    order: Order | None = field(default=None, kw_only=True)
    shuffle: bool = field(default=False, kw_only=True)
    optimizer: Literal["sgd", "adam", "adamw"] = field(default="sgd", kw_only=True)
    momentum: float = field(default=0.0, kw_only=True)
    dampening: float = field(default=0.0, kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    betas: tuple[float, float] = field(default=(0.9, 0.999), kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None:
            object.__setattr__(self, "steps", 1)
        for name in ("steps", "learning_rate", "batch_size", "clip", "epochs", "eps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value}.")
        if self.order is not None:
            object.__setattr__(self, "order", _rows(self.order))
        self._check_optimizer()
        self._check_order()

    def _check_optimizer(self) -> None:
        if self.optimizer not in ("sgd", "adam", "adamw"):
            raise ValueError(f"optimizer must be 'sgd', 'adam' or 'adamw'; got {self.optimizer!r}.")
        if not (self.momentum >= 0 and 0 <= self.dampening < 1 and self.weight_decay >= 0):
            raise ValueError(
                "momentum and weight_decay must not be negative and dampening must lie in [0, 1); got "
                f"{self.momentum}, {self.weight_decay} and {self.dampening}."
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1); got {self.betas}.")
        if self.optimizer != "sgd" and (self.momentum or self.dampening or self.nesterov):
            raise ValueError(f"momentum, dampening and nesterov belong to 'sgd'; {self.optimizer!r} has betas.")
        if self.nesterov and not (self.momentum and not self.dampening):
            raise ValueError("nesterov needs a momentum, and no dampening.")

    def _check_order(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"give steps or epochs, not both; got {self.steps} and {self.epochs}.")
        if self.shuffle and self.order is not None:
            raise ValueError("order is an agreed order and shuffle a secret one: give one of them.")
        if self.batch_size is None and (self.order is not None or self.shuffle or self.drop_last):
            raise ValueError("order, shuffle and drop_last need a batch_size: otherwise each step uses everything.")

    def __repr__(self) -> str:
        always = ("steps", "learning_rate", "batch_size", "clip")
        shown = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in dataclasses.fields(self)
            if one.name in always or getattr(self, one.name) != one.default
        ]
        return f"LocalTraining({', '.join(shown)})"

    @property
    def single(self) -> bool:
        """Whether this is one step on the whole batch with the plain gradient, clipped or not."""
        whole = self.steps == 1 and self.batch_size is None
        return whole and self.optimizer == "sgd" and not self.weight_decay and not self.nesterov

    def count(self, samples: int) -> int:
        """How many steps a client with ``samples`` samples takes."""
        if self.epochs is None:
            assert self.steps is not None
            return self.steps
        return self.epochs * len(self._epoch(samples, 0))

    def batches(self, samples: int) -> list[Tensor]:
        """The samples (int64) that each local step uses, out of ``samples``.

        Raises ValueError where ``drop_last`` leaves nothing, and for an ``order`` of another length.
        """
        epochs = (self._epoch(samples, number) for number in count())
        steps: Iterator[Tensor] = (chosen for epoch in epochs for chosen in epoch)
        return list(islice(steps, self.count(samples)))

    def drawn(self, samples: int, generator: torch.Generator) -> "LocalTraining":
        """The same training with the secret order drawn, where there is one: what the client really does."""
        if not self.shuffle:
            return self
        plain = dataclasses.replace(self, shuffle=False)
        epochs = -(-plain.count(samples) // len(plain._epoch(samples, 0)))
        rows = [torch.randperm(samples, generator=generator, device="cpu").tolist() for _ in range(epochs)]
        return dataclasses.replace(plain, order=_rows(rows))

    def _epoch(self, samples: int, number: int) -> list[Tensor]:
        """The batches of one epoch."""
        order = torch.arange(samples, device="cpu")
        if self.order is not None:
            row = self.order[0] if len(self.order) == 1 else self.order[min(number, len(self.order) - 1)]
            if sorted(row) != list(range(samples)):
                raise ValueError(
                    f"order must name each of the client's {samples} samples once, from 0; got {list(row)[:12]}."
                )
            if 1 < len(self.order) <= number:
                raise ValueError(f"order has {len(self.order)} rows, and the training takes more epochs: add rows.")
            order = torch.tensor(row, dtype=torch.int64, device="cpu")
        size = samples if self.batch_size is None else self.batch_size
        batches = list(order.split(max(1, size)))
        if self.drop_last and len(batches[-1]) < size:
            batches.pop()
        if not batches:
            raise ValueError(
                f"a local batch of {size} needs at least {size} samples where the last one is dropped; the client "
                f"holds {samples}."
            )
        return batches


PLAIN = LocalTraining()
"""One step on the whole batch: FedSGD."""


def _rows(order: object) -> Order:
    """Rows of whole numbers, from a tensor or nested sequences of one or two dimensions."""
    rows = order.tolist() if isinstance(order, Tensor) else order
    if not isinstance(rows, Sequence) or not rows:
        raise ValueError(f"order must be a row of indices, or one row for each epoch; got {order!r}.")
    rows = rows if isinstance(rows[0], Sequence) else [rows]
    return tuple(tuple(int(index) for index in row) for row in rows)
