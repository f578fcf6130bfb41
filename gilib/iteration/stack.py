"""How a stack of candidates is evaluated: all rows at once, in chunks, or one after another.

Small networks spend their time on starting operations, and one operation for all victims saves it (`torch.func.vmap`).
Large networks spend it on moving gradients through memory, one copy a victim: there a plain loop is faster. Some models
cannot be mapped at all. This is the one place that chooses.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from gilib.federated import MAPPED_NUMBERS, by_tape, by_transform, explained
from gilib.iteration.matching import Matching
from gilib.iteration.objective import Problem, Rows, objective_of
from gilib.iteration.priors import Prior

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]

LEAST_MAPPED = 4
"""Where fewer rows fit, a loop is as fast: the map's own work is shared by too few."""

FAILURES = (RuntimeError, NotImplementedError)  # what torch raises where it cannot map or differentiate


def evaluator(
    problem: Problem, *, matching: Matching, priors: Sequence[Prior], compiled: bool = False, slopes: bool = True
) -> Evaluate:
    """A function from a stack of candidates (N, D) to their objectives (N,) and gradients (N, D).

    With ``slopes=False``, for an optimizer that needs none, the gradients are zeros and cost nothing. Raises
    ValueError, when it is called, for a model that PyTorch cannot differentiate twice.
    """
    return Stack(problem, matching, priors, slopes=slopes, compiled=compiled)


class Stack:
    """The evaluator. ``rows`` is how many candidates are evaluated together; 1 is a plain loop."""

    def __init__(
        self, problem: Problem, matching: Matching, priors: Sequence[Prior], *, slopes: bool, compiled: bool
    ) -> None:
        self.slopes, self.rows = slopes, chunk(problem)
        self.known = problem.known if self.rows == 1 else _stacked(problem.known)
        self.taped = objective_of(problem, matching=matching, priors=priors, by=by_tape)
        objective = objective_of(problem, matching=matching, priors=priors, by=by_transform)
        self.single = torch.func.grad_and_value(objective) if slopes else _without_slopes(objective)
        self.together = torch.func.vmap(self.single)
        self.compiled: Callable[..., tuple[Tensor, Tensor]] | None = None
        if compiled:
            self.rows = problem.rows if self.rows > 1 else 1
            self.compiled = self._compile(problem)

    def __call__(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        if self.rows > 1:
            try:
                return self._mapped(candidates)
            except torch.OutOfMemoryError:
                self.rows = 1
            except FAILURES:  # a model that cannot be mapped: the loop says what is wrong with it, if anything is
                self.rows = 1
        return _joined([self._one(candidates, row) for row in range(len(candidates))])

    def _mapped(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        parts = []
        for start in range(0, len(candidates), self.rows):
            chosen = slice(start, start + self.rows)
            function = self.together if self.compiled is None else self.compiled
            with torch.no_grad():
                gradients, losses = function(candidates[chosen], *_taken(self.known, chosen))
            parts.append((losses, gradients))
        return parts[0] if len(parts) == 1 else (torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts]))

    def _one(self, candidates: Tensor, row: int) -> tuple[Tensor, Tensor]:
        known = _taken(self.known, row)
        if self.compiled is not None:
            with torch.no_grad():
                gradient, loss = self.compiled(candidates[row], *known)
            return loss, gradient
        try:
            return self._taped(candidates[row], known)
        except FAILURES as error:
            raise _refusal(error) from error

    def _taped(self, candidate: Tensor, known: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            candidate = candidate.detach().requires_grad_(self.slopes)
            loss = self.taped(candidate, *known)
            if not self.slopes:
                return loss.detach(), torch.zeros_like(candidate)
            [gradient] = torch.autograd.grad(loss, [candidate], materialize_grads=True)
        return loss.detach(), gradient

    def _compile(self, problem: Problem) -> Callable[..., tuple[Tensor, Tensor]]:
        """Trace the step of all rows, or of one, into one graph and give it to ``torch.compile``."""
        if problem.reference.device.type == "cpu":
            _check_compiler()
        example = problem.reference.new_full((problem.rows, problem.length), 0.5)
        function, inputs = (
            (self.together, (example, *self.known))
            if self.rows > 1
            else (
                self.single,
                (example[0], *_taken(self.known, 0)),
            )
        )
        try:
            graph = make_fx(function)(*inputs)
        except Exception as error:  # tracing runs the model, which may raise anything
            raise ValueError(
                f"compiled=True cannot trace this model: {explained(error)} Leave compiled=False, or pass the module "
                "that was not compiled yet."
            ) from error
        compiled: Callable[..., tuple[Tensor, Tensor]] = torch.compile(graph)
        return compiled


def chunk(problem: Problem) -> int:
    """How many rows to evaluate together: 1 where a loop is as fast."""
    numbers = max(problem.length, sum(value.numel() for value in problem.parameters.values()))
    fitting = MAPPED_NUMBERS // numbers
    return min(problem.rows, fitting) if fitting >= LEAST_MAPPED else 1


def _without_slopes(objective: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda candidate, *known: (torch.zeros_like(candidate), objective(candidate, *known))


def _stacked(known: Any) -> Any:
    """The same with one tensor for all rows."""
    gradients, *others = known
    return {name: rows.stacked() for name, rows in gradients.items()}, *others


def _taken(known: Any, rows: Any) -> Any:
    """The given rows of every tensor in nested tuples, lists and dictionaries."""
    if isinstance(known, Tensor | Rows):
        return known[rows]
    if isinstance(known, dict):
        return {name: _taken(value, rows) for name, value in known.items()}
    return type(known)(_taken(value, rows) for value in known)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([loss for loss, _ in parts]), torch.stack([gradient for _, gradient in parts])


def _refusal(error: BaseException) -> Exception:
    """What to raise in place of an error of torch's."""
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
        return MemoryError("one victim does not fit into memory. Use a smaller model or batch, or float32.")
    return ValueError(f"this model cannot be attacked: {explained(error)}")


def _check_compiler() -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None and shutil.which("clang++") is None:
        raise RuntimeError(
            f"compiled=True needs a C++ compiler, and neither {compiler!r} nor 'clang++' is on the PATH. "
            "Install one (Debian: apt install g++), or leave compiled=False."
        )
