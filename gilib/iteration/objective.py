"""The objective of an iteration-based attack: written for one victim, evaluated for a whole stack.

A candidate is one flat vector: what represents its images, the pixels in the plainest case, followed by label logits
where labels are optimized too, and by the draws of random layers where these are searched.
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from gilib.draws import random_layers
from gilib.federated import Forward, Gradients, Update, as_function, as_targets, checked_logits, local_update
from gilib.iteration.hidden import HiddenDraws, expected
from gilib.iteration.labels import Labels
from gilib.iteration.layers import last_layer_input
from gilib.iteration.matching import Matching
from gilib.iteration.priors import Prior, ServerView
from gilib.iteration.representation import Representation, pixels, vector_size
from gilib.iteration.statistics import batch_norm_inputs, running_statistics, shared_statistics

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Problem:
    """What the attack works on: the model as a function, and the shared gradients and targets, one row a candidate.

    A row is a victim and a restart: row ``v * restarts + r``. ``targets`` is None where labels are optimized,
    ``statistics`` where no batch-norm statistics are shared. ``size`` of a candidate's numbers stand for its images.
    ``draws`` are the attacker's guesses of what random layers drew, ``searched`` the shapes of those that are searched.
    """

    forward: Forward
    parameters: Gradients
    update: Update
    gradients: Gradients
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
        forward, parameters = as_function(model, mode=updates[0].mode)
        reference = next(iter(parameters.values()))
        with torch.no_grad():
            blank = reference.new_zeros(updates[0].batch_size, *updates[0].image_shape)
            logits = checked_logits(forward, parameters, blank)
        gradients = {
            name: torch.stack([update.gradients[name] for update in updates])
            .to(reference)
            .repeat_interleave(restarts, 0)
            for name in parameters
        }
        restored = [labels.restore(update, model) for update in updates]
        fixed = [as_targets(found, logits.shape[-1]) for found in restored if found is not None]
        targets = torch.stack(fixed).to(reference).repeat_interleave(restarts, 0) if fixed else None
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
        """The targets (B, K) of one candidate: the fixed ones, or the softmax of its own logits."""
        if self.targets is not None:
            return targets
        logits = candidate[self.size : self.size + math.prod(self.logit_shape)]
        return logits.reshape(self.logit_shape).softmax(dim=-1)

    def drawn(self, candidate: Tensor, guessed: dict[str, Tensor]) -> dict[str, Tensor]:
        """The draws of one candidate's random layers: those it searches, or the attacker's guess."""
        layers, position, found = random_layers(self.model), self.size + math.prod(self.logit_shape), {}
        for name, shape in self.searched.items():
            numbers = candidate[position : position + math.prod(shape)]
            found[name], position = layers[name].relax(numbers.reshape(shape)), position + math.prod(shape)
        return found or guessed


def evaluator(
    problem: Problem, *, matching: Matching, priors: Sequence[Prior], compiled: bool = False, slopes: bool = True
) -> Evaluate:
    """A function from a stack of candidates (N, D) to their objectives (N,) and gradients (N, D).

    With ``slopes=False``, for an optimizer that needs none, the gradients are zeros and cost nothing.
    """
    measured = batch_norm_inputs(problem.model)
    running = running_statistics(problem.model)
    features = last_layer_input(problem.model, mode=problem.update.mode)

    def objective(
        candidate: Tensor,
        shared: Gradients,
        targets: Tensor,
        statistics: list[tuple[Tensor, Tensor]],
        guessed: dict[str, Tensor],
    ) -> Tensor:
        images, targets = problem.images(candidate), problem.soft_labels(candidate, targets)
        update, draws = problem.update, problem.drawn(candidate, guessed)

        def forward(current: Gradients, images: Tensor) -> Tensor:
            return problem.forward({**draws, **current}, images)

        guess = local_update(forward, problem.parameters, images, targets, loss=update.loss, local=update.local)
        value = matching(guess, shared)
        view = ServerView(
            lambda images: forward(problem.parameters, images),
            measured,
            running,
            None if problem.statistics is None else statistics,
            features,
            shared,
        )
        for prior in priors:
            value = value + prior(images, targets, view)
        return value

    def flat(candidate: Tensor, *known: Any) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(candidate), objective(candidate, *known)

    stacked = torch.func.vmap(torch.func.grad_and_value(objective) if slopes else flat)
    targets = problem.reference.new_zeros(problem.rows, 0) if problem.targets is None else problem.targets
    known = (problem.gradients, targets, problem.statistics or [], problem.draws)
    if compiled:
        stacked = _compile(stacked, problem, known)

    def evaluate(candidates: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            gradients, losses = stacked(candidates, *known)
        return losses, gradients

    return evaluate


def _compile(
    stacked: Callable[..., tuple[Tensor, Tensor]], problem: Problem, known: tuple[object, ...]
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Trace the stacked step into one graph and give it to ``torch.compile``."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None and shutil.which("clang++") is None:
        raise RuntimeError(
            f"compiled=True needs a C++ compiler, and neither {compiler!r} nor 'clang++' is on the PATH. "
            "Install one (Debian: apt install g++), or leave compiled=False."
        )
    example = problem.reference.new_full((problem.rows, problem.length), 0.5)
    graph = make_fx(stacked)(example, *known)
    compiled: Callable[..., tuple[Tensor, Tensor]] = torch.compile(graph)
    return compiled
