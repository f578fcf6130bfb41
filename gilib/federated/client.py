"""A client of federated learning: it holds data, trains locally and shares an update."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gilib.data import Batch, check_probabilities
from gilib.draws import sample_draws, seeded_generator
from gilib.federated.defense import Defense
from gilib.federated.functional import as_function, checked_logits, copied, reference
from gilib.federated.local_training import PLAIN, LocalTraining
from gilib.federated.losses import Loss, as_targets, cross_entropy, logit_errors
from gilib.federated.noticed import explained
from gilib.federated.simulation import (
    MAPPED_NUMBERS,
    Forward,
    Gradients,
    by_tape,
    by_transform,
    local_update,
    training_steps,
)
from gilib.federated.update import Mode, Update


@dataclass(frozen=True)
class Client:
    """A client of federated learning: it holds data, trains locally and shares an ``Update``.

    ``mode`` says how batch norm works during local training: "eval" normalises with the model's running statistics,
    which the server knows; "train" normalises with the statistics of the client's own batch, which it does not.
    ``share_labels`` and ``share_buffers`` give the server more than gradients; a threat model must say so. ``seed``
    stands for the client's own luck and is as secret as its data: no attack may use it. Unless given it is drawn from
    the operating system, so that no two clients share it. The model is never changed: it is copied.

    Taught in: foundations/federated_learning.
    """

    model: nn.Module
    loss: Loss = field(default=cross_entropy, kw_only=True)
    local: LocalTraining = field(default=PLAIN, kw_only=True)
    mode: Mode = field(default="eval", kw_only=True)
    defenses: Sequence[Defense] = field(default=(), kw_only=True)
    share_labels: bool = field(default=False, kw_only=True)
    share_buffers: bool = field(default=False, kw_only=True)
    seed: int | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if self.seed is None:
            object.__setattr__(self, "seed", secrets.randbits(62))

    def update(self, batch: Batch, *, round: int = 0) -> Update:
        """Train locally on ``batch`` and return what leaves the client.

        ``round`` separates the random draws of one round from those of the next, for defenses that draw. An empty batch
        gives an update of zeros, where samples are clipped: a round of noise alone, as Poisson sampling has it. Raises
        ValueError if the images do not fit the model, the labels do not fit its logits or its loss, the model draws
        from a global random state, samples are to be clipped that batch norm or random layers tie together, or one
        defense voids what another one promises.
        """
        assert self.seed is not None
        for place, defense in enumerate(self.defenses):
            defense.compatible(before=self.defenses[:place], after=self.defenses[place + 1 :])
        generator = seeded_generator(self.seed, round)
        model, local = self.improved(), self.local
        for defense in self.defenses:
            batch, local = defense.obscure(batch, generator=generator), defense.agree(local)
        gradients, buffers = self._trained(model, batch, local, generator)
        update = Update(
            gradients=gradients,
            batch_size=len(batch),
            image_shape=tuple(batch.inputs.shape[1:]),
            local=local,
            loss=self.loss,
            mode=self.mode,
            buffers=buffers if self.share_buffers else None,
            labels=batch.labels.clone() if self.share_labels else None,
            public={defense.name: defense.public for defense in self.defenses},
        )
        for defense in self.defenses:
            update = defense.withhold(update, model=model, batch=batch)
            update = defense.protect(update, generator=generator)
        return update

    def _trained(
        self, model: nn.Module, batch: Batch, local: LocalTraining, generator: torch.Generator
    ) -> tuple[Gradients, dict[str, Tensor]]:
        """The gradients of local training on the batch, and the buffers of the model after it."""
        images = batch.inputs.to(reference(model))
        if len(batch) == 0:
            return _nothing(model, local)
        draws = sample_draws(model, images, generator)
        _check_local(model, local, mode=self.mode, drawn=bool(draws))
        forward, parameters = as_function(model, mode=self.mode, draws=draws)
        with torch.no_grad():
            logits = checked_logits(forward, parameters, images)
        targets = as_targets(batch.labels, logits.shape[-1], dtype=logits.dtype).to(logits.device)
        if self.loss is cross_entropy and batch.labels.ndim == 2:
            check_probabilities(targets)
        logit_errors(self.loss, logits, targets)  # a loss that does not take these says so here
        done = local.drawn(len(images), generator)
        settings: Any = {"loss": self.loss, "local": done, "gradient_of": by_tape}
        found = _samples_together(forward, parameters, images, targets, loss=self.loss, local=done)
        try:
            found = found or local_update(forward, parameters, images, targets, **settings)
        except (RuntimeError, NotImplementedError) as error:
            raise ValueError(f"the model cannot be trained on this batch: {explained(error)}") from error
        gradients = {name: value.detach() for name, value in found.items()}
        if not self.share_buffers:
            return gradients, {}
        steps = training_steps(forward, parameters, images, targets, **settings)
        return gradients, _buffers_after(model, steps, images, mode=self.mode)

    def improved(self) -> nn.Module:
        """The model that is really trained: the client's, after all defenses have improved it.

        The server knows it, but for what a defense keeps secret (``gilib.defenses.model.secret_branch``).
        """
        model = self.model
        for defense in self.defenses:
            model = defense.improve(model)
        return model


def _samples_together(
    forward: Forward, parameters: Gradients, images: Tensor, targets: Tensor, *, loss: Loss, local: LocalTraining
) -> Gradients | None:
    """Local training with the clipped gradients of all samples in one map: None without clip, and where it is no use.

    On small networks a map is several times as fast as one sample after another. Samples times parameters decide, as in
    ``iteration/stack.py``; a model that cannot be mapped goes through the loop, which says what is wrong with it.
    """
    numbers = len(images) * sum(value.numel() for value in parameters.values())
    if local.clip is None or numbers > MAPPED_NUMBERS:
        return None
    try:
        return local_update(forward, parameters, images, targets, loss=loss, local=local, gradient_of=by_transform)
    except (RuntimeError, NotImplementedError):
        return None


def _nothing(model: nn.Module, local: LocalTraining) -> tuple[Gradients, dict[str, Tensor]]:
    """What a client without samples shares: zeros, if clipping bounds what a sample can add to them."""
    if local.clip is None:
        raise ValueError(
            "expected at least one sample, got none: only a client that clips samples shares a round of noise."
        )
    learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return {name: torch.zeros_like(value).detach() for name, value in learned.items()}, {}


def _check_local(model: nn.Module, local: LocalTraining, *, mode: Mode, drawn: bool) -> None:
    """Refuse local training that the model's layers do not allow: see ``Client.update``."""
    tied = any(isinstance(part, nn.modules.batchnorm._NormBase) for part in model.modules())
    if local.clip is not None and ((tied and mode == "train") or drawn):
        raise ValueError(
            "local training with clip needs the gradient of every sample on its own: batch norm in train mode mixes "
            "the samples, and random layers draw for all of them at once. Use mode='eval', and no random layers."
        )
    if drawn and not local.single:
        raise ValueError(
            "the model's random layers draw once for the whole batch, so one local step of plain SGD on it is "
            f"possible; got {local}."
        )


def _buffers_after(
    model: nn.Module, steps: Iterable[tuple[Gradients, Tensor, Gradients]], images: Tensor, *, mode: Mode
) -> dict[str, Tensor]:
    """The buffers (running batch-norm statistics) after all local steps, each a forward pass over its samples."""
    module = copied(model).train(mode == "train")
    with torch.no_grad():
        for current, chosen, _ in steps:
            torch.func.functional_call(
                module, {name: value.detach() for name, value in current.items()}, (images[chosen],)
            )
    return {name: value.detach().clone() for name, value in module.named_buffers()}
