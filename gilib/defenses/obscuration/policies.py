"""Automatic transformation search: policies scored for privacy and for usability, without any training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.data import Batch
from gilib.defenses.obscuration.transforming import Policy, Transformation, apply
from gilib.federated import Client, as_function, seeded_generator


def privacy_score(model: nn.Module, policy: Policy, batch: Batch, *, points: int = 11, seed: int = 0) -> float:
    """How easily gradient matching finds the way from noise to the distorted images, 1 for very easily. Low is good.

    The area under the cosine between the gradients of ``T(x)`` and of the mixtures ``(1 - s) noise + s T(x)`` for s
    from 0 to 1 (trapezoidal rule at ``points``), averaged over the parameters and over the images of ``batch``.

    Source: Gao et al. (2021), as in the authors' code. Taught in: defenses/obscuration.
    """
    client, generator, total = Client(model), seeded_generator(seed), 0.0
    for image, label in zip(apply(policy, batch.images.double()), batch.labels, strict=True):
        noise = torch.rand(image.shape, generator=generator, dtype=torch.float64, device="cpu").to(image.device)
        steps = torch.linspace(0, 1, points, dtype=torch.float64, device="cpu")
        target = client.update(Batch(image[None], label[None])).gradients
        values = []
        for step in steps:
            found = client.update(Batch(((1 - step) * noise + step * image)[None], label[None])).gradients
            cosines = [nn.functional.cosine_similarity(found[n].flatten(), target[n].flatten(), dim=0) for n in target]
            values.append(torch.stack(cosines).mean().cpu())
        total += float(torch.trapezoid(torch.stack(values), steps))
    return total / len(batch)


def usability_score(model: nn.Module, policy: Policy, images: Tensor) -> float:
    """How well an untrained ``model`` tells the distorted ``images`` apart, without training it. High is good.

    ``-sum(log(v + e) + 1 / (v + e))`` over the eigenvalues v of the correlations between the derivatives of the summed
    logits at the images, e being 1e-5.

    Source: Gao et al. (2021), as in the authors' code. Taught in: defenses/obscuration.
    """
    forward, parameters = as_function(model)
    inputs = apply(policy, images.double()).to(next(iter(parameters.values())))
    slopes = torch.func.grad(lambda x: forward(parameters, x).sum())(inputs).flatten(1)
    values = torch.linalg.eigvalsh(torch.corrcoef(slopes.double())) + 1e-5
    return float(-(values.log() + 1 / values).sum())


@dataclass(frozen=True)
class Scored:
    """A policy of the search and its two scores."""

    policy: tuple[Transformation, ...]
    privacy: float
    usability: float


def search_policy(
    trained: nn.Module,
    untrained: nn.Module,
    batch: Batch,
    *,
    candidates: Sequence[Transformation],
    count: int = 30,
    longest: int = 3,
    seed: int = 0,
) -> list[Scored]:
    """Draw ``count`` policies of one to ``longest`` of the candidates and score them, the best for privacy first.

    Only the half with the higher usability is returned. Privacy is scored on a ``trained`` model, usability on an
    ``untrained`` one. Raises ValueError for too few candidates.

    Source: Gao et al. (2021), with our own way of choosing. Taught in: defenses/obscuration.
    """
    if len(candidates) < longest:
        raise ValueError(f"policies of up to {longest} parts need as many candidates; got {len(candidates)}.")
    generator, scored = seeded_generator(seed), []
    for _ in range(count):
        length = int(torch.randint(1, longest + 1, (1,), generator=generator, device="cpu"))
        chosen = torch.randperm(len(candidates), generator=generator, device="cpu")[:length].tolist()
        policy = tuple(candidates[index] for index in chosen)
        usability = usability_score(untrained, policy, batch.images)
        scored.append(Scored(policy, privacy_score(trained, policy, batch), usability))
    usable = sorted(scored, key=lambda one: -one.usability)[: (count + 1) // 2]
    return sorted(usable, key=lambda one: one.privacy)
