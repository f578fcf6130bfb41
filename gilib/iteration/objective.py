"""The objective of an iteration-based attack: written for one victim, evaluated for a whole stack.

A candidate is one flat vector: the pixels of its images, followed by label logits where labels are optimized too.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from gilib.federated import Forward, Gradients, Update, as_function, as_targets, checked_logits, local_update
from gilib.iteration.labels import Labels
from gilib.iteration.matching import Matching
from gilib.iteration.priors import Prior

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Problem:
    """What the attack works on: the model as a function, and the shared gradients and targets, one row a candidate.

    A row is a victim and a restart: row ``v * restarts + r``. ``targets`` is None where labels are optimized.
    """

    forward: Forward
    parameters: Gradients
    update: Update
    gradients: Gradients
    targets: Tensor | None
    restarts: int
    classes: int

    @classmethod
    def of(cls, model: nn.Module, updates: Sequence[Update], *, labels: Labels, restarts: int) -> "Problem":
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
        return cls(forward, parameters, updates[0], gradients, targets, restarts, logits.shape[-1])

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
    def pixels(self) -> int:
        """How many of a candidate's numbers are pixels."""
        return int(torch.Size(self.image_shape).numel())

    def images(self, candidate: Tensor) -> Tensor:
        """The images (B, C, H, W) of one candidate."""
        return candidate[: self.pixels].reshape(self.image_shape)

    def soft_labels(self, candidate: Tensor, targets: Tensor) -> Tensor:
        """The targets (B, K) of one candidate: the fixed ones, or the softmax of its own logits."""
        if self.targets is not None:
            return targets
        return candidate[self.pixels :].reshape(self.logit_shape).softmax(dim=-1)


def evaluator(problem: Problem, *, matching: Matching, priors: Sequence[Prior], compiled: bool = False) -> Evaluate:
    """A function from a stack of candidates (N, D) to their objectives (N,) and gradients (N, D)."""

    def logits(images: Tensor) -> Tensor:
        return problem.forward(problem.parameters, images)

    def objective(candidate: Tensor, shared: Gradients, targets: Tensor) -> Tensor:
        images, targets = problem.images(candidate), problem.soft_labels(candidate, targets)
        update = problem.update
        guess = local_update(problem.forward, problem.parameters, images, targets, loss=update.loss, local=update.local)
        value = matching(guess, shared)
        for prior in priors:
            value = value + prior(images, targets, logits)
        return value

    stacked = torch.func.vmap(torch.func.grad_and_value(objective))
    targets = problem.reference.new_zeros(problem.rows, 0) if problem.targets is None else problem.targets
    if compiled:
        stacked = _compile(stacked, problem, targets)

    def evaluate(candidates: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            gradients, losses = stacked(candidates, problem.gradients, targets)
        return losses, gradients

    return evaluate


def _compile(
    stacked: Callable[..., tuple[Tensor, Tensor]], problem: Problem, targets: Tensor
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Trace the stacked step into one graph and give it to ``torch.compile``."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None and shutil.which("clang++") is None:
        raise RuntimeError(
            f"compiled=True needs a C++ compiler, and neither {compiler!r} nor 'clang++' is on the PATH. "
            "Install one (Debian: apt install g++), or leave compiled=False."
        )
    size = problem.pixels + torch.Size(problem.logit_shape).numel()
    example = problem.reference.new_full((problem.rows, size), 0.5)
    graph = make_fx(stacked)(example, problem.gradients, targets)
    compiled: Callable[..., tuple[Tensor, Tensor]] = torch.compile(graph)
    return compiled
