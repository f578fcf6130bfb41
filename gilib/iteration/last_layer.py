"""What the gradients of the last layer say about labels: the errors ``p - y`` of its classes, and what they rest on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gilib.federated import (
    ErrorForm,
    Gradients,
    Head,
    Update,
    as_function,
    as_targets,
    checked_logits,
    error_form,
    error_scale,
    find_head,
    gradient_weights,
    in_single,
    logit_errors,
    probabilities,
)
from gilib.iteration.signal import check_signal


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The gradients of an update's last layer, read as what they are multiples of.

    ``form`` says how the loss's derivative by the logits follows from ``p - y``; None for a loss of another form.
    ``decay`` is what weight decay added to the bias gradient (a number, or (classes,)).
    """

    update: Update
    head: Head
    gradients: Gradients
    form: ErrorForm | None
    decay: Tensor | float = 0.0

    @classmethod
    def of(cls, update: Update, model: nn.Module, *, scaled: bool = False) -> "LastLayer":
        """Find the last layer of the ``model`` in an update. With ``scaled``, other losses than c (p - y) are refused.

        Raises ValueError for a gradient that says nothing, a model without a last layer, and a refused loss.
        """
        check_signal(update)
        view = cls.seen(update, find_head(model, update.image_shape))
        if scaled and view.form is None:
            raise ValueError(
                "this label rule needs a loss whose derivative by the logits is a multiple of p - y, as cross-entropy "
                "has, and the update's loss has another form (weights, several labels an image, or a "
                "regression). Use known() where the threat model gives the labels."
            )
        return cls(update, view.head, view.gradients, view.form, view._decayed(model))

    @classmethod
    def seen(cls, update: Update, head: Head) -> "LastLayer":
        """The same with a last layer that is known."""
        names = [name for name in (head.weight, head.bias) if name in update.gradients]
        gradients = {name: _single(update.gradients[name]) / update.weight for name in names if name is not None}
        if not gradients:
            raise ValueError("the update holds no gradient of the model's last layer: labels cannot be read off it.")
        like = next(iter(gradients.values()))
        return cls(update, head, gradients, error_form(update.loss, head.logits, like=like))

    @property
    def weight(self) -> Tensor:
        """The weight gradient (classes, d)."""
        return self.head.weight_gradient(self.gradients)

    @property
    def bias(self) -> Tensor:
        """The bias gradient (classes,), less what weight decay added."""
        return self.head.bias_gradient(self.gradients) - self.decay

    @property
    def steps(self) -> float:
        """How many gradients the update is worth: the local steps, more with momentum. Raises ValueError for Adam."""
        weights = gradient_weights(self.update.local, self.update.batch_size)
        if weights is None:
            raise ValueError(
                f"this label rule needs an update that is a sum of gradients; with {self.update.local.optimizer!r} "
                "every entry has its own scale. Use idlg() for a single sample, or known()."
            )
        return sum(weights)

    def errors_per_sample(self) -> float:
        """What the mean of ``p - y`` over the samples is multiplied by in this update.

        Raises ValueError for Adam, and where samples do not count alike: in a smaller last batch, left out, or by
        momentum in an early one.
        """
        samples, loss, count = self.update.batch_size, self.update.loss, self.head.logits
        batches, total = self.update.local.batches(samples), [0.0] * samples
        weights = gradient_weights(self.update.local, samples) or [self.steps]  # steps refuses Adam
        sizes = {len(chosen) for chosen in batches}
        forms = {size: error_form(loss, count, samples=size, like=self.bias) for size in sizes}
        scales = {size: 0.0 if form is None else form.scale for size, form in forms.items()}
        for weight, chosen in zip(weights, batches, strict=True):
            for sample in chosen.tolist():
                total[sample] += weight * scales[len(chosen)]
        if max(total) - min(total) > 1e-3 * max(total):
            raise ValueError(
                "counting labels needs samples that count alike in the update, and this local training counts some "
                f"more than others: {self.update.local} on {samples} samples. Use known() where the threat model gives "
                "labels."
            )
        return sum(total)

    def scores(self) -> Tensor:
        """For each class (classes,) a number with the sign of its error ``p - y``, the lowest for the likeliest label.

        Row sums of the weight gradient where features cannot be negative, otherwise the bias gradient. For one sample
        without a bias the size of a class's row, negative where it is largest. Raises ValueError where nothing tells.
        """
        if self.head.has_bias(self.gradients) and (self.head.signed or self.update.batch_size == 1):
            return self.bias
        if not self.head.signed:
            return row_sums(self.weight)
        if self.update.batch_size == 1 and self.head.classes > 2:
            return -self.weight.norm(dim=1)
        raise ValueError(
            "features that enter the last layer can be negative, so the signs of its weight gradient do not tell the "
            "label, and no bias gradient is shared. Use joint(), or known() where the threat model gives the labels."
        )

    def predicted(self, model: nn.Module) -> Tensor:
        """The probabilities (classes,) that the last layer makes of the features in the gradient."""
        found = probabilities(self._logits(model))
        return torch.cat([1 - found, found]) if self.head.logits == 1 else found

    def nearest_label(self, model: nn.Module) -> Tensor:
        """The label (1,) of a single sample for which the loss has the errors that the bias gradient shows.

        The features, and so the logits, follow from the gradient by a division. Raises ValueError where no label fits.
        """
        count, bias = self.head.logits, self.bias[-self.head.logits :]
        logits = self._logits(model)[None]
        labels = torch.arange(self.head.classes, device=logits.device)
        fits = []
        for label in labels:
            targets = as_targets(label.reshape(1), count, dtype=logits.dtype)
            errors = logit_errors(self.update.loss, logits, targets)[0]
            fits.append(torch.nn.functional.cosine_similarity(errors, bias, dim=0))
        best = torch.stack(fits).argmax().reshape(1)
        if float(fits[int(best)]) < 0.99:
            raise ValueError(
                "no label explains the gradient of the last layer under the update's loss: the target is not one "
                "class, the loss is another one, or training took too many steps. Use known() or joint()."
            )
        return best

    def _logits(self, model: nn.Module) -> Tensor:
        """The logits of the features in the gradient."""
        features, parameters = self.bias @ self.weight / self.bias.square().sum(), dict(model.named_parameters())
        weight, bias = (_single(parameters[name or ""].detach()) for name in (self.head.weight, self.head.bias))
        return weight.flatten(1).to(features) @ features + bias.to(features)

    def _decayed(self, model: nn.Module) -> Tensor | float:
        """What weight decay added to the bias gradient, to first order: a multiple of the bias at the start."""
        local = self.update.local
        if not local.weight_decay or not self.head.has_bias(self.gradients):
            return 0.0
        if local.optimizer == "adam":
            raise ValueError(
                "Adam rescales weight decay together with the gradient, so that the signs of the last layer need not "
                "be those of the errors: no label can be read off. Use known()."
            )
        times = local.count(self.update.batch_size) if local.optimizer == "adamw" else self.steps
        started = _single(dict(model.named_parameters())[self.head.bias or ""].detach())
        return self.head.bias_gradient({self.head.bias or "": started}) * local.weight_decay * times


def row_sums(weight: Tensor) -> Tensor:
    """For each class (classes,), the sum over its row of the last layer's weight gradient (classes, d)."""
    return weight.sum(dim=1)


def last_layer(update: Update, model: nn.Module) -> tuple[Tensor, Tensor]:
    """The weight gradient (classes, d) and the bias gradient (classes,) of the model's last layer, as they were shared.

    Raises ValueError where the model has no last layer with both. Taught in: iteration/labels.
    """
    head = find_head(model, update.image_shape)
    return head.weight_gradient(update.gradients), head.bias_gradient(update.gradients)


def check_one_label(update: Update, model: nn.Module) -> None:
    """Refuse to search for labels where a target is not one class: several labels an image, or a regression.

    Raises ValueError for a loss that treats every logit by itself, unless it is the logistic loss of a single one.
    """
    searched = in_single(model)
    forward, parameters = as_function(searched)
    like = next(iter(parameters.values()))
    with torch.no_grad():
        count = checked_logits(forward, parameters, like.new_zeros(1, *update.image_shape)).shape[1]
    if error_scale(update.loss, count, like=like) is not None:
        return
    labels = torch.zeros(1, dtype=torch.int64, device=like.device)
    targets, logits = as_targets(labels, count, dtype=like.dtype), like.new_zeros(1, count)
    moved = logits.clone()
    moved[0, -1] = 1.0
    still, changed = logit_errors(update.loss, logits, targets), logit_errors(update.loss, moved, targets)
    if count == 1 or torch.equal(still[:, :-1], changed[:, :-1]):
        raise ValueError(
            "the update's loss treats every logit by itself (several labels an image, or a regression), so its targets "
            "are not one class out of several and cannot be searched for as one. Use known() where the threat model "
            "gives the targets."
        )


def _single(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
