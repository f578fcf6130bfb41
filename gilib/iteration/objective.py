"""The objective of an iteration-based attack: written for one victim, evaluated for a whole stack.

A candidate is one flat vector: what represents its images, the pixels in the plainest case, followed by label logits
where labels are optimized too, and by the draws of random layers where these are searched.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gilib.draws import random_layers
from gilib.federated import (
    Forward,
    GradientOf,
    Gradients,
    Update,
    as_function,
    as_targets,
    check_own_backward,
    checked_logits,
    classes_of,
    find_head,
    in_single,
    local_update,
    probabilities,
)
from gilib.iteration.hidden import HiddenDraws, expected
from gilib.iteration.labels import Labels
from gilib.iteration.layers import last_layer_input
from gilib.iteration.matching import Matching
from gilib.iteration.priors import Prior, ServerView
from gilib.iteration.representation import Representation, pixels, vector_size
from gilib.iteration.statistics import batch_norm_inputs, running_statistics, shared_statistics

Objective = Callable[..., Tensor]


class Rows(tuple[Tensor, ...]):
    """One tensor a row. Restarts share their victim's, and nothing is copied before rows are evaluated together."""

    def stacked(self) -> Tensor:
        """All rows as one tensor (N, ...)."""
        return self[0][None] if len(self) == 1 else torch.stack(list(self))


@dataclass(frozen=True)
class Problem:
    """What the attack works on: the model as a function, and the shared gradients and targets, one row a candidate.

    A row is a victim and a restart: row ``v * restarts + r``. The model is in float32 where the client's has half the
    precision. ``targets`` is None where labels are optimized, ``statistics`` where no batch-norm statistics are shared.
    ``size`` of a candidate's numbers stand for its images. ``draws`` are the attacker's guesses of what random layers
    drew, ``searched`` the shapes of those that are searched.
    """

    forward: Forward
    parameters: Gradients
    update: Update
    gradients: dict[str, Rows]
    targets: Tensor | None
    statistics: list[tuple[Tensor, Tensor]] | None
    restarts: int
    classes: int
    representation: Representation
    size: int
    model: nn.Module
    draws: dict[str, Tensor]
    searched: dict[str, tuple[int, ...]]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        updates: Sequence[Update],
        *,
        labels: Labels,
        restarts: int,
        representation: Representation | None = None,
        with_statistics: bool = False,
        draws: HiddenDraws | None = None,
    ) -> "Problem":
        """Stack the updates of all victims, one row a restart."""
        model = in_single(model)
        forward, parameters = as_function(model, mode=updates[0].mode)
        reference = next(iter(parameters.values()))
        with torch.no_grad():
            blank = reference.new_zeros(updates[0].batch_size, *updates[0].image_shape)
            logits = checked_logits(forward, parameters, blank)
        check_own_backward(forward, parameters, blank)
        gradients = {
            name: Rows(_unweighted(one, name, reference) for one in updates for _ in range(restarts))
            for name in parameters
        }
        restored = [labels.restore(update, model) for update in updates]
        fixed = [as_targets(found, logits.shape[-1]).to(reference) for found in restored if found is not None]
        targets = torch.stack(fixed).repeat_interleave(restarts, 0) if fixed else None
        statistics = shared_statistics(model, updates, restarts=restarts) if with_statistics else None
        representation = pixels() if representation is None else representation
        size = vector_size(representation, tuple(blank.shape))
        draws = expected() if draws is None else draws
        guessed = draws.guess(model, blank, rows=len(updates) * restarts)
        return cls(
            forward,
            parameters,
            updates[0],
            gradients,
            targets,
            statistics,
            restarts,
            logits.shape[-1],
            representation,
            size,
            model,
            {} if draws.searched else guessed,
            {name: tuple(value.shape[1:]) for name, value in guessed.items()} if draws.searched else {},
        )

    @property
    def reference(self) -> Tensor:
        """A tensor with the dtype and the device of the search."""
        return next(iter(self.parameters.values()))

    @property
    def rows(self) -> int:
        """Victims times restarts."""
        return len(next(iter(self.gradients.values())))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one victim's images, (B, C, H, W)."""
        return (self.update.batch_size, *self.update.image_shape)

    @property
    def logit_shape(self) -> tuple[int, ...]:
        """Shape of one victim's label logits, (B, K), or (0,) where labels are fixed."""
        return (self.update.batch_size, self.classes) if self.targets is None else (0,)

    @property
    def length(self) -> int:
        """How many numbers make a candidate."""
        return self.size + math.prod(self.logit_shape) + sum(math.prod(shape) for shape in self.searched.values())

    def images(self, candidate: Tensor) -> Tensor:
        """The images (B, C, H, W) of one candidate."""
        return self.representation.images(candidate[: self.size], self.image_shape)

    def soft_labels(self, candidate: Tensor, targets: Tensor) -> Tensor:
        """The targets (B, K) of one candidate: the fixed ones, or the probabilities of its own logits."""
        if self.targets is not None:
            return targets
        logits = candidate[self.size : self.size + math.prod(self.logit_shape)]
        return probabilities(logits.reshape(self.logit_shape))

    def labels(self, candidate: Tensor, targets: Tensor) -> Tensor:
        """The labels (B,) of one candidate; its targets (B, K) where these are no probabilities of classes."""
        found = self.soft_labels(candidate, targets)
        rows = torch.cat([1 - found, found], dim=-1) if self.classes == 1 else found
        likely = bool((rows > -1e-4).all() and ((rows.sum(dim=-1) - 1).abs() < 1e-4).all())
        return classes_of(found) if likely else found

    def drawn(self, candidate: Tensor, guessed: dict[str, Tensor]) -> dict[str, Tensor]:
        """The draws of one candidate's random layers: those it searches, or the attacker's guess."""
        if not self.searched:
            return guessed
        layers, position, found = random_layers(self.model), self.size + math.prod(self.logit_shape), {}
        for name, shape in self.searched.items():
            numbers = candidate[position : position + math.prod(shape)]
            found[name], position = layers[name].relax(numbers.reshape(shape)), position + math.prod(shape)
        return found

    @property
    def known(self) -> tuple[dict[str, Rows], Tensor, list[tuple[Tensor, Tensor]], dict[str, Tensor]]:
        """What the server has about each row: gradients, targets, batch statistics, guessed draws."""
        targets = self.reference.new_zeros(self.rows, 0) if self.targets is None else self.targets
        return self.gradients, targets, self.statistics or [], self.draws

    def update_of(self, candidate: Tensor, targets: Tensor, guessed: dict[str, Tensor], by: GradientOf) -> Gradients:
        """The gradients that a client with this candidate's images and labels would share."""
        images, soft = self.images(candidate), self.soft_labels(candidate, targets)
        return self.simulate(self.with_draws(candidate, guessed), images, soft, by)

    def simulate(self, forward: Forward, images: Tensor, targets: Tensor, by: GradientOf) -> Gradients:
        """The agreed local training on images (B, C, H, W) and targets (B, K)."""
        agreed: dict[str, Any] = {"loss": self.update.loss, "local": self.update.local}
        return local_update(forward, self.parameters, images, targets, gradient_of=by, **agreed)

    def with_draws(self, candidate: Tensor, guessed: dict[str, Tensor]) -> Forward:
        """The model as a function, with the draws of one candidate."""
        draws = self.drawn(candidate, guessed)
        if not draws:
            return self.forward
        return lambda current, images: self.forward({**draws, **current}, images)


def _unweighted(update: Update, name: str, like: Tensor) -> Tensor:
    """One gradient before the client multiplied it for a weighted sum, in the dtype and on the device of the search."""
    value = update.gradients[name].to(like)
    return value if update.weight == 1 else value / update.weight


def objective_of(problem: Problem, *, matching: Matching, priors: Sequence[Prior], by: GradientOf) -> Objective:
    """The objective of one row, as a function of its candidate (D,) and of what is known about it.

    ``by`` says how the client's gradient is computed, so that the objective can be mapped or taped.
    """
    running, of_norms = running_statistics(problem.model), cache(lambda: batch_norm_inputs(problem.model))
    wanted = any(getattr(prior, "needs_features", False) for prior in priors)
    head = find_head(problem.model, problem.update.image_shape) if wanted else None
    features = last_layer_input(problem.model, mode=problem.update.mode, head=head) if wanted else None

    def objective(
        candidate: Tensor, shared: Gradients, targets: Tensor, statistics: Any, guessed: dict[str, Tensor]
    ) -> Tensor:
        value = matching(problem.update_of(candidate, targets, guessed, by), shared)
        if not priors:
            return value
        images, soft = problem.images(candidate), problem.soft_labels(candidate, targets)
        forward = problem.with_draws(candidate, guessed)
        view = ServerView(
            lambda images: forward(problem.parameters, images),
            lambda images: of_norms()(images),  # a copy of the model, made if a prior asks
            running,
            None if problem.statistics is None else statistics,
            features,
            shared,
            head,
        )
        for prior in priors:
            value = value + prior(images, soft, view)
        return value

    return objective
