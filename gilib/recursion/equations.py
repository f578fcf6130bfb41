"""What a layer tells about its input, and the whole gradient about the image: how many equations are independent.

Once the layers above are known, the input x of a convolution or a linear layer meets two kinds of linear equations: the
gradient of the weight is linear in x, because the gradient of the output is known, and so is the output.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gilib.chain import chain
from gilib.data import Batch
from gilib.federated import Client, Loss, Mode, checked_logits, cross_entropy, seeded_generator
from gilib.jacobian import jacobian
from gilib.recursion.door import double_model, is_plain, on_cpu
from gilib.recursion.network import without_log_softmax

Shape = tuple[int, ...]

# What keeps all numbers: the input follows from the output, entry by entry.
INVERTIBLE = (nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.Softplus, nn.ELU, nn.CELU, nn.SELU, nn.Softsign, nn.LogSigmoid)
UNCHANGED = (nn.Flatten, nn.Unflatten, nn.Identity)
LINEAR = (nn.Conv2d, nn.Linear, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
TOLERANCE = 1e-9  # singular values below this share of the largest count as zero
LARGEST = 4096  # unknowns of the largest system whose rank is computed: 128 MiB a square matrix


@dataclass
class Step:
    """A layer as it ran on one image, and ``behind`` it the entrywise layers that belong to its row.

    ``output`` (1, ...) is the layer's own and ``final`` what leaves the last layer behind it. A layer that takes or
    returns something other than one tensor has empty ones. ``unknown`` says why a whole model is a single step.
    """

    name: str
    layer: nn.Module
    inputs: Tensor
    output: Tensor
    final: Tensor
    behind: list[nn.Module] = field(default_factory=list)
    unknown: str = ""

    @property
    def hides(self) -> bool:
        """Whether a ReLU hides the outputs below zero."""
        return any(_is_relu(part) for part in (self.layer, *self.behind))

    @property
    def linear(self) -> bool:
        """Whether the output is linear in the input, up to the bias."""
        return isinstance(self.layer, LINEAR) and is_plain(self.layer)

    @property
    def parameters(self) -> int:
        """How many numbers of this row the client shares."""
        parts = (self.layer, *self.behind)
        return sum(value.numel() for part in parts for value in part.parameters() if value.requires_grad)


def trace(model: nn.Module, shape: Shape, *, mode: Mode, seed: int) -> tuple[list[Step], Tensor]:
    """The steps of a network on a random image in [0, 1], in float64, and the logits.

    The network is copied. It runs in eval mode, whatever the ``mode``, which only decides what belongs to a row: batch
    normalization with the client's own statistics stands alone. Raises ValueError for images that do not fit.
    """
    working = double_model(model)
    image = torch.rand(1, *shape, generator=seeded_generator(seed), dtype=torch.float64, device="cpu").requires_grad_()
    checked_logits(lambda _, images: working(images), {}, image.detach())
    steps: list[Step] = []
    value = image
    links, unknown = _layers(working, shape)
    for name, layer in links:
        before, value = value, layer(value)
        if isinstance(layer, UNCHANGED):
            continue
        if steps and passes(layer, mode):
            steps[-1].behind.append(layer)
            steps[-1].final = value
        else:
            steps.append(Step(name, layer, _tensor(before), _tensor(value), _tensor(value), unknown=unknown))
    return steps, value


def _layers(working: nn.Module, shape: Shape) -> tuple[list[tuple[str, nn.Module]], str]:
    """The chain of layers up to the logits; where there is none, the model as one layer, and why."""
    try:
        return without_log_softmax(chain(working, image_shape=shape)), ""
    except ValueError as error:
        return [("model", working)], str(error).rstrip(".")


def passes(layer: nn.Module, mode: Mode) -> bool:
    """Whether a layer belongs to the row before it: entrywise, with an input that follows from the output."""
    if isinstance(layer, nn.LeakyReLU):
        return layer.negative_slope >= 0
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return mode == "eval" and layer.running_mean is not None
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return mode == "eval" or layer.p == 0
    return isinstance(layer, (*INVERTIBLE, nn.ReLU))


def padded_zeros(layer: nn.Module, inputs: Tensor) -> int:
    """How many zeros a convolution puts around its input."""
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or layer.padding == "valid":
        return 0
    around = [2 * int(side) for side in layer.padding if layer.padding != "same"]
    if layer.padding == "same":
        around = [step * (side - 1) for step, side in zip(layer.dilation, layer.kernel_size, strict=True)]
    height, width = inputs.shape[-2:]
    return inputs.shape[1] * ((height + around[0]) * (width + around[1]) - height * width)


def independent_equations(step: Step, gradient: Tensor, *, outputs_known: bool) -> int | None:
    """The rank of a layer's equations at the traced image, given the ``gradient`` of its output.

    Outputs that a ReLU set to zero give none. None for a layer with more than ``LARGEST`` unknowns.
    """
    unknowns = step.inputs.numel()
    if unknowns > LARGEST:
        return None
    weight = getattr(step.layer, "weight", None)
    shared = weight is not None and weight.requires_grad and bool(gradient.any())
    if shared and isinstance(step.layer, nn.Linear) and step.inputs.ndim == 2:
        return unknowns  # a row of the weight gradient is the input, times a number that is known
    visible = (
        (step.final.flatten() > 0) if step.hides else torch.ones(step.output.numel(), dtype=torch.bool, device="cpu")
    )
    visible = visible & outputs_known
    *weights, outputs = layer_equations(step.layer, step.inputs.shape, gradient if shared else None)
    scaled = [block / block.norm() for block in (*weights, outputs[visible]) if block.any()]
    return int(torch.linalg.matrix_rank(torch.cat(scaled), rtol=TOLERANCE)) if scaled else 0


def layer_equations(layer: nn.Module, shape: torch.Size, gradient: Tensor | None) -> list[Tensor]:
    """The blocks of a layer's linear system, each (equations, unknowns), for inputs of ``shape`` (1, ...).

    First that of the weight gradient, if the ``gradient`` of the output is given, last that of the output. In float64
    on the CPU, whatever the layer has.

    Source: Zhu & Blaschko (2021). Taught in: recursion/rank.
    """
    layer = double_model(layer)
    gradient = None if gradient is None else on_cpu(gradient)
    parameters = {name: value.detach() for name, value in layer.named_parameters()}
    if parameters.get("bias") is not None:
        parameters["bias"] = torch.zeros_like(parameters["bias"])

    def output(weight: Tensor | None, x: Tensor) -> Tensor:
        chosen = parameters if weight is None else parameters | {"weight": weight}
        result: Tensor = torch.func.functional_call(layer, chosen, (x,))
        return result

    def column(unit: Tensor) -> tuple[Tensor, ...]:
        x = unit.reshape(shape)
        forward = output(None, x).flatten()
        if gradient is None:
            return (forward,)
        pull = torch.func.vjp(lambda weight: output(weight, x), parameters["weight"])[1]
        return pull(gradient)[0].flatten(), forward

    units = torch.eye(math.prod(shape), dtype=torch.float64, device="cpu")
    columns = torch.func.vmap(column, chunk_size=256)(units)
    return [block.T for block in columns]


@dataclass(frozen=True)
class JacobianRank:
    """The derivative of the shared gradient by the pixels: its ``rank``, of at most ``pixels``, and its ``condition``.

    ``condition`` is the ratio of the largest to the smallest singular value, infinite if the rank is not full.
    """

    rank: int
    pixels: int
    condition: float

    @property
    def full(self) -> bool:
        """Whether no direction in image space leaves the gradient as it is, to first order."""
        return self.rank == self.pixels


def jacobian_rank(
    model: nn.Module,
    shape: Shape,
    *,
    image: Tensor | None = None,
    label: int = 0,
    loss: Loss = cross_entropy,
    mode: Mode = "eval",
    seed: int = 0,
) -> JacobianRank:
    """How many independent equations the whole gradient gives about one image of ``shape`` (C, H, W), with its label.

    An exact statement, but a local one: about the neighbourhood of the ``image`` (C, H, W), by default a random one
    drawn with ``seed``. Works on any model that PyTorch can differentiate twice, in time and memory that grow with
    parameters times pixels. Raises ValueError for images or labels that do not fit the model.

    Known as: rank of the Jacobian (analysis). Needs the model alone.
    Taught in: recursion/rank (and, by hand, in iteration/training).
    """
    if image is None:
        image = torch.rand(shape, generator=seeded_generator(seed), dtype=torch.float64, device="cpu")
    if tuple(image.shape) != tuple(shape):
        raise ValueError(f"expected an image of shape {tuple(shape)}, got {tuple(image.shape)}.")
    client = Client(double_model(model), loss=loss, mode=mode)
    _, derivative = jacobian(client, Batch(on_cpu(image)[None], torch.tensor([label], device="cpu")))
    pixels, values = image.numel(), torch.linalg.svdvals(derivative)
    rank = int((values > TOLERANCE * values[0]).sum())
    return JacobianRank(rank, pixels, float(values[0] / values[-1]) if rank == pixels else math.inf)


def _is_relu(part: nn.Module) -> bool:
    return isinstance(part, nn.ReLU) or (isinstance(part, nn.LeakyReLU) and part.negative_slope == 0)


def _tensor(value: object) -> Tensor:
    return value if isinstance(value, Tensor) else torch.empty(1, 0, device="cpu")
