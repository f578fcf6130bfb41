"""The client's side of federated learning: from a batch to the update that leaves the client.

``local_update`` is a pure function of tensors. The client calls it on its data, and an attack calls the same function
on its candidate, so that both sides run the same local training. That is why the matching loss at the true input is
zero.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from gilib.data import Batch
from gilib.draws import sample_draws

Gradients = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Mode = Literal["eval", "train"]
Forward = Callable[[Gradients, Tensor], Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of ``logits`` (B, K) against ``targets`` (B, K), one probability vector a sample.

    Targets are probabilities rather than class indices, so that an attack can optimize them (DLG) and a defense can mix
    them (MixUp).
    """
    return -(targets * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def logistic(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean logistic loss of single logits (B, 1) against ``targets`` (B, 1), the probabilities of label 1.

    For a model with one logit, whose cross-entropy would be zero. Taught in: recursion/rgap.
    """
    log_likelihood = targets * logsigmoid(logits) + (1 - targets) * logsigmoid(-logits)
    return -log_likelihood.mean()


def as_targets(labels: Tensor, classes: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Labels as probability vectors (B, K): one-hot for labels (B,) of int64, unchanged for labels that are (B, K).

    With a single logit (``classes=1``) a label is 0 or 1, and its own target (B, 1). Raises ValueError if a label is
    not one of the ``classes``.
    """
    if labels.ndim == 2:
        return labels.to(dtype)
    top = max(1, classes - 1)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= top:
        raise ValueError(
            f"labels must lie in 0..{top}, because the model returns {classes} logits; "
            f"got {int(labels.min())}..{int(labels.max())}. Give the model as many classes as the data set has."
        )
    if classes == 1:
        return labels[:, None].to(dtype)
    return nn.functional.one_hot(labels, classes).to(dtype)


@dataclass(frozen=True)
class LocalTraining:
    """What a client does between receiving the model and sending its update: plain SGD, agreed with the server.

    ``steps`` gradient steps of size ``learning_rate``. With ``batch_size=None`` each step uses the whole batch (one
    step is FedSGD, several are FedAvg). Otherwise step t uses the next ``batch_size`` samples in order and starts
    again at the end of the batch. With ``clip``, the gradient of every sample is scaled down to at most that norm (over
    all parameters) before a step averages them. Raises ValueError for values that are not positive.

    Source: McMahan et al. (2017), algorithm 1; the clipping of Abadi et al. (2016), algorithm 1. Taught in:
    foundations/federated_learning, defenses/privacy.
    """

    steps: int = 1
    learning_rate: float = 0.1
    batch_size: int | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("steps", self.steps),
            ("learning_rate", self.learning_rate),
            ("batch_size", self.batch_size),
            ("clip", self.clip),
        ):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value}.")

    def indices(self, step: int, samples: int) -> Tensor:
        """The samples (int64) that local step ``step`` uses, out of ``samples``."""
        size = samples if self.batch_size is None else self.batch_size
        if size > samples:
            raise ValueError(f"a local batch of {size} needs at least {size} samples; the client holds {samples}.")
        return torch.arange(step * size, (step + 1) * size) % samples


@dataclass(frozen=True)
class Update:
    """What leaves the client, and what both sides agreed on beforehand.

    ``gradients``: parameter name to tensor of the parameter's shape. After several local steps it is the parameter
    change divided by minus the learning rate, so that one step gives the plain gradient. ``image_shape`` is (C, H,
    W). ``local``, ``loss`` and ``mode`` are the agreed training. ``labels`` (B,) and ``buffers`` (batch-norm
    statistics) are None unless the threat model shares them; labels that a defense mixed are (B, K). ``public`` is what
    the defenses make public, by defense name.
    """

    gradients: Gradients
    batch_size: int
    image_shape: tuple[int, int, int]
    local: LocalTraining = LocalTraining()
    loss: Loss = cross_entropy
    mode: Mode = "eval"
    buffers: dict[str, Tensor] | None = None
    labels: Tensor | None = None
    public: Mapping[str, object] = field(default_factory=dict)


class Defense:
    """Base of every defense. Each of the five methods does nothing until a family of defenses overrides it.

    ``public`` is what the defense tells everybody, its settings for instance, and all that an adaptive attack may use.
    """

    @property
    def name(self) -> str:
        """The name under which ``Update.public`` lists this defense."""
        return type(self).__name__

    @property
    def public(self) -> Mapping[str, object]:
        """What an adaptive attack may know of this defense."""
        return {}

    def obscure(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """Change the batch before training (data obscuration)."""
        return batch

    def improve(self, model: nn.Module) -> nn.Module:
        """Return the model to train on instead of ``model``, which stays as it is (model improvement).

        A model that this defense has improved before is returned unchanged: rounds go on with what they began with.
        """
        return model

    def agree(self, local: LocalTraining) -> LocalTraining:
        """Change the local training that client and server agree on."""
        return local

    def withhold(self, update: Update, *, model: nn.Module, batch: Batch) -> Update:
        """Leave parts of the update out, chosen by the data it was computed from (gradient protection).

        ``model`` and ``batch`` are those that were trained with. Called just before ``protect``. What is missing
        depends on the data, and no noise covers that: beside ``dp_sgd`` a defense that withholds voids the guarantee.
        """
        return update

    def protect(self, update: Update, *, generator: torch.Generator) -> Update:
        """Change the update before it leaves the client (gradient protection)."""
        return update


@dataclass(frozen=True)
class Client:
    """A client of federated learning: it holds data, trains locally and shares an ``Update``.

    ``mode`` says how batch norm works during local training: "eval" normalises with the model's running statistics,
    which the server knows; "train" normalises with the statistics of the client's own batch, which it does not.
    ``share_labels`` and ``share_buffers`` give the server more than gradients; a threat model must say so. ``seed``
    stands for the client's own luck and is as secret as its data: no attack may use it. The model is never changed: it
    is copied.

    Taught in: foundations/federated_learning.
    """

    model: nn.Module
    loss: Loss = field(default=cross_entropy, kw_only=True)
    local: LocalTraining = field(default=LocalTraining(), kw_only=True)
    mode: Mode = field(default="eval", kw_only=True)
    defenses: Sequence[Defense] = field(default=(), kw_only=True)
    share_labels: bool = field(default=False, kw_only=True)
    share_buffers: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def update(self, batch: Batch, *, round: int = 0) -> Update:
        """Train locally on ``batch`` and return what leaves the client.

        ``round`` separates the random draws of one round from those of the next, for defenses that draw. Raises
        ValueError if the images do not fit the model, the labels do not fit its logits, the model has parts that draw
        from the global random state, or samples are to be clipped that batch norm or random layers tie together.
        """
        generator = seeded_generator(self.seed, round)
        model, local = self.improved(), self.local
        for defense in self.defenses:
            batch, local = defense.obscure(batch, generator=generator), defense.agree(local)
        images = batch.images.to(_reference(model))
        draws = sample_draws(model, images, generator)
        _check_local(model, local, mode=self.mode, drawn=bool(draws))
        forward, parameters = as_function(model, mode=self.mode, draws=draws)
        logits = checked_logits(forward, parameters, images)
        targets = as_targets(batch.labels, logits.shape[-1], dtype=logits.dtype).to(logits.device)
        update = Update(
            gradients=local_update(forward, parameters, images, targets, loss=self.loss, local=local),
            batch_size=len(images),
            image_shape=(images.shape[1], images.shape[2], images.shape[3]),
            local=local,
            loss=self.loss,
            mode=self.mode,
            buffers=_buffers_after(model, images, mode=self.mode) if self.share_buffers else None,
            labels=batch.labels.clone() if self.share_labels else None,
            public={defense.name: defense.public for defense in self.defenses},
        )
        for defense in self.defenses:
            update = defense.withhold(update, model=model, batch=batch)
            update = defense.protect(update, generator=generator)
        return update

    def improved(self) -> nn.Module:
        """The model that is really trained: the client's, after all defenses have improved it.

        The server knows it, but for what a defense keeps secret (``gilib.defenses.model.secret_branch``).
        """
        model = self.model
        for defense in self.defenses:
            model = defense.improve(model)
        return model


def local_update(
    forward: Forward, parameters: Gradients, images: Tensor, targets: Tensor, *, loss: Loss, local: LocalTraining
) -> Gradients:
    """The parameter change of local SGD divided by minus the learning rate: the sum of the gradients of all steps.

    Differentiable in ``images`` (B, C, H, W) and ``targets`` (B, K), and safe under ``torch.func.vmap``.

    Source: Geiping et al. (2020), section 6 (federated averaging). Taught in: foundations/federated_learning.
    """
    gradient = torch.func.grad(lambda current, x, y: loss(forward(current, x), y))
    if local.clip is not None:
        gradient = _clipped(gradient, local.clip)
    if local.steps == 1 and local.batch_size is None:
        return dict(gradient(parameters, images, targets))
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for step in range(local.steps):
        chosen = local.indices(step, len(images)).to(images.device)
        current = {name: value - local.learning_rate * total[name] for name, value in parameters.items()}
        change = gradient(current, images[chosen], targets[chosen])
        total = {name: total[name] + change[name] for name in total}
    return total


def _clipped(gradient: Callable[..., Gradients], bound: float) -> Callable[..., Gradients]:
    """The mean over samples of ``gradient``, each sample's scaled down to a norm of at most ``bound``."""

    def clip(current: Gradients, image: Tensor, target: Tensor) -> Gradients:
        one = gradient(current, image[None], target[None])
        tiny = torch.finfo(image.dtype).tiny  # keeps the slope of the root finite at zero
        norm = (torch.stack([value.square().sum() for value in one.values()]).sum() + tiny).sqrt()
        return {name: value * (bound / norm).clamp(max=1) for name, value in one.items()}

    def mean(current: Gradients, images: Tensor, targets: Tensor) -> Gradients:
        each = torch.func.vmap(clip, in_dims=(None, 0, 0))(current, images, targets)
        return {name: value.mean(dim=0) for name, value in each.items()}

    return mean


def train(
    model: nn.Module,
    batch: Batch,
    *,
    stages: Sequence[int],
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[int, nn.Module]:
    """Train a copy of the model by SGD on ``batch``, and return copies of it after each of ``stages`` steps.

    This is how the book makes victims of a stated training stage: stage 0 is the untrained model. Each step draws
    ``batch_size`` samples without replacement from a generator of its own; batch norm works in train mode. In float64
    the weights agree across CPU types to about ten digits after a few hundred steps, in float32 to none. The models
    returned are in eval mode. Raises ValueError for stages that do not rise from 0 or more, and for loss values that
    are not finite.

    Taught in: iteration/training.
    """
    if list(stages) != sorted(set(stages)) or not stages or stages[0] < 0:
        raise ValueError(f"stages must be rising numbers of steps, from 0 or more; got {list(stages)}.")
    trained, taken = copy.deepcopy(model).train(), {}
    optimizer = torch.optim.SGD(trained.parameters(), lr=learning_rate, momentum=momentum)
    generator = seeded_generator(seed)
    images = batch.images.to(next(trained.parameters()))
    for step in range(stages[-1]):
        if step in stages:
            taken[step] = copy.deepcopy(trained).eval()
        chosen = torch.randperm(len(images), generator=generator)[:batch_size]
        loss = nn.functional.cross_entropy(trained(images[chosen]), batch.labels[chosen])
        if not loss.isfinite():
            raise ValueError(f"the training loss is {loss.item()} at step {step}: lower learning_rate={learning_rate}.")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    taken[stages[-1]] = copy.deepcopy(trained).eval()
    return taken


def fit(
    client: Client,
    batch: Batch,
    *,
    rounds: int,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    batch_size: int = 32,
    seed: int = 0,
) -> nn.Module:
    """Train by rounds of defended updates, and return the model: what the defenses leave of the training.

    In each round the client computes its update on ``batch_size`` samples drawn without replacement, with its defenses
    and their draws of that round, and the server takes a step of SGD with momentum. The client's model is where the
    training begins, improved by its defenses. Returns a copy in eval mode. Raises ValueError if an update stops being
    finite.

    Taught in: defenses/privacy.
    """
    trained = copy.deepcopy(client.improved())
    parameters = {name: value for name, value in trained.named_parameters() if value.requires_grad}
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    generator = seeded_generator(seed)
    for number in range(rounds):
        chosen = torch.randperm(len(batch), generator=generator)[:batch_size]
        sample = Batch(batch.images[chosen], batch.labels[chosen])
        update = replace(client, model=trained).update(sample, round=number)
        for name, value in update.gradients.items():
            if not value.isfinite().all():
                raise ValueError(f"round {number} gave gradients that are not finite: lower {learning_rate=}.")
            velocity[name] = momentum * velocity[name] + value
            with torch.no_grad():
                parameters[name].sub_(learning_rate * velocity[name])
    return trained.eval()


def as_function(
    model: nn.Module, *, mode: Mode = "eval", draws: Mapping[str, Tensor] | None = None
) -> tuple[Forward, Gradients]:
    """The model as a pure function ``forward(parameters, images) -> logits``, and its trainable parameters.

    ``draws`` are what its random layers drew (see ``gilib.draws``); without them they are deterministic. Works on a
    ``working_copy``, whose errors it raises too. Raises ValueError for a model without trainable parameters.
    """
    module = working_copy(model, mode=mode)
    _reference(module)
    parameters = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}

    def forward(current: Gradients, images: Tensor) -> Tensor:
        logits: Tensor = torch.func.functional_call(module, {**(draws or {}), **current}, (images,))
        return logits

    return forward, parameters


def _reference(model: nn.Module) -> Tensor:
    """A trainable parameter, which has the dtype and the device of the computation. Raises ValueError for none."""
    for value in model.parameters():
        if value.requires_grad:
            return value
    raise ValueError("the model has no trainable parameters, so a client has no gradient to share.")


def working_copy(model: nn.Module, *, mode: Mode) -> nn.Module:
    """A copy of the model in the given mode, in which "train" makes batch norm use the batch and update nothing.

    Raises ValueError for an unknown mode, and for dropout in train mode, which would draw from the global random state.
    """
    if mode not in ("eval", "train"):
        raise ValueError(f"mode must be 'eval' or 'train'; got {mode!r}.")
    module = copy.deepcopy(model).train(mode == "train")
    if mode == "train":
        use_batch_statistics(module)
    for name, part in module.named_modules():
        if mode == "train" and isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
            raise ValueError(
                f"layer {name!r} is dropout, which draws from the global random state in train mode. "
                "Use mode='eval', or set its p to 0."
            )
    return module


def _check_local(model: nn.Module, local: LocalTraining, *, mode: Mode, drawn: bool) -> None:
    """Refuse local training that the model's layers do not allow: see ``Client.update``."""
    tied = any(isinstance(part, nn.modules.batchnorm._NormBase) for part in model.modules())
    if local.clip is not None and ((tied and mode == "train") or drawn):
        raise ValueError(
            "local training with clip needs the gradient of every sample on its own: batch norm in train mode mixes "
            "the samples, and random layers draw for all of them at once. Use mode='eval', and no random layers."
        )
    if drawn and (local.steps > 1 or local.batch_size is not None):
        raise ValueError(
            "the model's random layers draw once for the whole batch, so one local step on it is possible; got "
            f"steps={local.steps}, batch_size={local.batch_size}."
        )


def use_batch_statistics(module: nn.Module) -> None:
    """Make the batch-norm layers of ``module`` normalize with the batch at hand, in either mode, and record nothing."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None


def checked_logits(forward: Forward, parameters: Gradients, images: Tensor) -> Tensor:
    """The logits (B, K) of images (B, C, H, W). Raises ValueError if the model does not take them or returns others."""
    try:
        logits = forward(parameters, images)
    except RuntimeError as error:  # what torch raises where shapes do not fit
        raise ValueError(
            f"the model does not take images of shape {tuple(images.shape)} ({error}). "
            "Build it for their channels and size, or resize them."
        ) from error
    if logits.ndim != 2 or len(logits) != len(images):
        raise ValueError(
            f"the model must return logits of shape ({len(images)}, classes); got {tuple(logits.shape)}. "
            "Wrap it so that it returns one row of logits an image."
        )
    return logits


def seeded_generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream depends on the whole ``key``, for instance (seed, victim, restart)."""
    generator = torch.Generator()
    state = 0
    for part in key:  # a small mixing of the parts: each one reseeds, and what it draws seeds the next
        generator.manual_seed((state + part) % 2**63)
        state = int(torch.randint(2**62, (1,), generator=generator))
    return generator


def _buffers_after(model: nn.Module, images: Tensor, *, mode: Mode) -> dict[str, Tensor]:
    """The buffers (running batch-norm statistics) after one forward pass over the client's images."""
    module = copy.deepcopy(model).train(mode == "train")
    with torch.no_grad():
        module(images)
    return {name: value.detach().clone() for name, value in module.named_buffers()}
