"""Named attacks: each is a function that returns an ``IterationAttack`` with that paper's ingredients."""

from dataclasses import replace

from torch import nn

from gilib.iteration.attack import IterationAttack
from gilib.iteration.evolution import cma_es
from gilib.iteration.group import group_consistency
from gilib.iteration.initialization import constant, normal, patches
from gilib.iteration.labels import Labels, column_minimum, joint, known
from gilib.iteration.labels import idlg as idlg_labels
from gilib.iteration.lbfgs import lbfgs
from gilib.iteration.matching import cosine, squared_l2
from gilib.iteration.optimizers import adam, signed_adam
from gilib.iteration.priors import batch_statistics, label_fit, squared_norm, total_variation
from gilib.iteration.representation import latent, weights
from gilib.iteration.staged import StagedAttack


def dlg(*, iterations: int = 1600, restarts: int = 1) -> IterationAttack:
    """Deep leakage from gradients: squared L2 matching over images and labels with L-BFGS, from Gaussian noise.

    Needs nothing but the update (threat model A). Made for smooth networks. The authors' code starts from standard
    normal noise, far outside the range of images; this recipe centres the noise on that range, which needs far fewer
    iterations.

    Known as: DLG, deep leakage from gradients (attack).
    Source: Zhu et al. (2019), algorithm 1. Taught in: foundations/first_leak.
    """
    return IterationAttack(
        initialization=normal(0.5, 0.1),
        labels=joint(),
        matching=squared_l2(),
        optimizer=lbfgs(),
        iterations=iterations,
        restarts=restarts,
        bounds=None,
    )


def idlg(*, iterations: int = 1600, restarts: int = 1) -> IterationAttack:
    """Improved DLG: the label is read off the last layer first, then only the image is searched. Batches of one.

    Known as: iDLG, improved DLG (attack). Needs nothing but the update of one image (threat model A).
    Source: Zhao et al. (2020). Taught in: foundations/first_leak.
    """
    return replace(dlg(iterations=iterations, restarts=restarts), labels=idlg_labels())


def cpl(*, iterations: int = 800, restarts: int = 1, patch: int = 4, label_weight: float = 1e-4) -> IterationAttack:
    """Client privacy leakage: DLG from a tiled random patch, with the label read off and the prediction pulled to it.

    Needs nothing but the update (threat model A). Batches of one. The label is read as iDLG does. The weight of the
    label term is our choice: a large one pulls away from the true image, at which the term is not zero.

    Known as: CPL, client privacy leakage (attack).
    Source: Wei et al. (2020). Taught in: iteration/initialization.
    """
    return replace(
        idlg(iterations=iterations, restarts=restarts),
        initialization=patches(patch),
        priors=(label_fit(label_weight),),
    )


def inverting_gradients(
    *, tv: float = 1e-3, labels: Labels | None = None, iterations: int = 1000, restarts: int = 1
) -> IterationAttack:
    """Inverting Gradients: cosine matching and total variation with Adam on the sign of the gradient, in the box.

    Needs the labels (``known()`` unless given otherwise). ``tv`` weighs the mean absolute difference of neighbours.

    Known as: Inverting Gradients, IG (attack).
    Source: Geiping et al. (2020), eq. 4 and the authors' public code (learning rate 0.1, three decays, clamping).
    Taught in: iteration/matching.
    """
    return IterationAttack(
        initialization=normal(0.5, 0.1),
        labels=known() if labels is None else labels,
        matching=cosine(),
        priors=(total_variation(tv),),
        optimizer=signed_adam(),
        iterations=iterations,
        restarts=restarts,
        bounds=(0.0, 1.0),
    )


def gradinversion(
    *,
    labels: Labels | None = None,
    tv: float = 0.1,
    l2: float = 0.1,
    batch_norm: float = 0.1,
    shared: bool = False,
    consistency: float = 10.0,
    register: bool = True,
    iterations: int = 1000,
    restarts: int = 4,
) -> IterationAttack:
    """GradInversion: squared L2 matching and four priors, for batches whose labels differ, on a batch-norm model.

    The priors are total variation ``tv``, squared norm ``l2``, batch-norm statistics ``batch_norm`` and the consistency
    of the restarts, ``consistency``; a weight of zero leaves one out. What the threat model must give: labels that are
    all different (``column_minimum()`` restores them; give other ``labels`` where they repeat), a model with batch
    norm, and with ``shared=True`` the batch-norm statistics of the victim's own batch, that is an update in train mode
    with buffers. ``shared=False`` takes the running statistics that every server has. The attack raises ValueError
    where one of these is missing, and for group consistency with a single restart.

    Our weights are for means over pixels; the paper's are for other sums. The step is 0.2 instead of 0.1 and constant,
    and there is no Langevin noise, because searches here are shorter than the paper's 20,000 iterations.

    Known as: GradInversion (attack). Needs a model with batch norm, and labels that are all different.
    Source: Yin et al. (2021). Taught in: iteration/priors.
    """
    weighted = (
        (tv, total_variation(tv)),
        (l2, squared_norm(l2)),
        (batch_norm, batch_statistics(batch_norm, shared=shared)),
    )
    return IterationAttack(
        initialization=normal(0.5, 0.1),
        labels=column_minimum() if labels is None else labels,
        matching=squared_l2(),
        priors=tuple(prior for weight, prior in weighted if weight),
        optimizer=adam(0.2),
        iterations=iterations,
        restarts=restarts,
        bounds=(0.0, 1.0),
        group=group_consistency(consistency, register=register) if consistency else None,
    )


def gias(
    generator: nn.Module,
    latent_size: int,
    *,
    labels: Labels | None = None,
    iterations: int = 500,
    weight_iterations: int = 0,
    restarts: int = 4,
) -> StagedAttack:
    """Gradient inversion with a generative image prior: search the generator's codes, then its weights.

    Needs a ``generator`` from codes (B, ``latent_size``) to images in [0, 1], trained on data like the victim's (threat
    model D), and the labels (``known()`` unless given otherwise). With ``weight_iterations=0`` only codes are searched.

    Known as: GIAS, generative image prior (attack).
    Source: Jeon et al. (2021). Taught in: iteration/generative.
    """
    codes = IterationAttack(
        initialization=constant(0.5),
        labels=known() if labels is None else labels,
        matching=cosine(),
        optimizer=adam(0.05),
        iterations=iterations,
        restarts=restarts,
        bounds=None,
        representation=latent(generator, latent_size),
    )
    if weight_iterations == 0:
        return StagedAttack((codes,))
    tuned = replace(
        codes,
        representation=weights(generator, latent_size),
        optimizer=adam(1e-3),
        iterations=weight_iterations,
        restarts=1,
    )
    return StagedAttack((codes, tuned))


def ggl(
    generator: nn.Module,
    latent_size: int,
    *,
    labels: Labels | None = None,
    population: int = 16,
    iterations: int = 100,
) -> IterationAttack:
    """Generative gradient leakage: CMA-ES over a generator's codes, which never asks for the objective's slope.

    Needs a ``generator`` from codes (B, ``latent_size``) to images in [0, 1], trained on data like the victim's (threat
    model D), and the labels (``known()`` unless given otherwise). ``iterations`` generations of ``population`` codes
    are evaluated, the first of them standard normal. Squared L2 is the distance of the authors' code, which also
    repeats the client's defense on the candidate's gradient and keeps the code in range; here that is left to
    ``matching`` and to the start.

    Known as: GGL, generative gradient leakage (attack).
    Source: Li et al. (2022). Taught in: iteration/generative.
    """
    return IterationAttack(
        initialization=constant(0.5),
        labels=known() if labels is None else labels,
        matching=squared_l2(),
        optimizer=cma_es(population),
        iterations=iterations,
        restarts=population,
        bounds=None,
        representation=latent(generator, latent_size),
    )


def deep_image_prior(
    network: nn.Module, latent_size: int, *, labels: Labels | None = None, iterations: int = 1000, restarts: int = 1
) -> IterationAttack:
    """Search the weights of an untrained ``network`` that draws the images from a fixed random code.

    That a convolutional network draws natural images more easily than noise is the whole prior: no data is needed.
    Needs the labels (``known()`` unless given otherwise).

    Known as: CI-Net, deep image prior (attack).
    Source: CI-Net, Zhang et al. (2023), after Ulyanov et al. (2018). Taught in: iteration/generative.
    """
    return IterationAttack(
        initialization=constant(0.5),
        labels=known() if labels is None else labels,
        matching=cosine(),
        optimizer=adam(1e-2),
        iterations=iterations,
        restarts=restarts,
        bounds=None,
        representation=weights(network, latent_size),
    )
