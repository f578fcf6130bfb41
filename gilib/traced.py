"""The forward pass of one module as a graph of steps, and the layers that compute the same as its functions."""

import inspect
import operator
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, Node, Tracer
from torch.nn import functional

from gilib.federated.noticed import explained

KNOWN: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "relu": (nn.ReLU, ("inplace",)),
    "sigmoid": (nn.Sigmoid, ()),
    "tanh": (nn.Tanh, ()),
    "leaky_relu": (nn.LeakyReLU, ("negative_slope", "inplace")),
    "elu": (nn.ELU, ("alpha", "inplace")),
    "celu": (nn.CELU, ("alpha", "inplace")),
    "selu": (nn.SELU, ("inplace",)),
    "gelu": (nn.GELU, ("approximate",)),
    "silu": (nn.SiLU, ("inplace",)),
    "mish": (nn.Mish, ("inplace",)),
    "relu6": (nn.ReLU6, ("inplace",)),
    "hardtanh": (nn.Hardtanh, ("min_val", "max_val", "inplace")),
    "softplus": (nn.Softplus, ("beta", "threshold")),
    "softsign": (nn.Softsign, ()),
    "log_sigmoid": (nn.LogSigmoid, ()),
    "softmax": (nn.Softmax, ("dim", "_stacklevel", "dtype")),
    "log_softmax": (nn.LogSoftmax, ("dim", "_stacklevel", "dtype")),
    "avg_pool2d": (nn.AvgPool2d, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
    "max_pool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
    "adaptive_max_pool2d": (nn.AdaptiveMaxPool2d, ("output_size",)),
    "contiguous": (nn.Identity, ()),
    "clone": (nn.Identity, ()),
}
"""Functions and methods, the layers that compute the same, and the names of their further arguments in order."""

UNHEEDED = ("inplace", "_stacklevel")  # arguments that change no number
DROPOUT = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
COUNTS = ("size", "getattr", "getitem", "mul", "floordiv", "add", "sub", "dim", "numel")


class NoChainError(ValueError):
    """What stands in the way of a chain, in words."""


def graph_of(module: nn.Module) -> Graph:
    """The traced forward pass of one module; its parts are single steps. Arguments that may be left out are."""

    class OneLevel(Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    arguments = list(inspect.signature(module.forward).parameters.values())
    optional = {one.name: one.default for one in arguments[1:] if one.default is not inspect.Parameter.empty}
    try:
        return OneLevel().trace(module, concrete_args=optional or None)
    except Exception as error:  # the trace calls code of the model's own
        raise NoChainError(f"the forward pass of {type(module).__name__} cannot be traced: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    text = str(error)
    if "control flow" in text:
        return "it branches on values or sizes of its input"
    if "'len'" in text:
        return "it calls len() of a tensor; write x.size(0)"
    if "'Proxy'" in text:
        return "it computes with values of its input as numbers of Python (float() or int())"
    if "iterated" in text:
        return "it loops over a tensor or its sizes"
    return explained(error).rstrip(".")


def returned(graph: Graph) -> Node:
    """The step whose result is the logits: the output, or what a dictionary has under 'logits'."""
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    logits = output.get("logits") if isinstance(output, dict) else output
    if not isinstance(logits, Node):
        raise NoChainError(f"the forward pass returns a {type(output).__name__} instead of one tensor")
    return logits


def input_of(node: Node) -> Node:
    """The one tensor that a step takes. Raises NoChainError where it takes more."""
    inputs = [one for one in node.all_input_nodes if not is_count(one)]
    held = [str(one.target) for one in inputs if one.op == "get_attr"]
    if held and len(inputs) > len(held):
        raise NoChainError(f"step {node.name!r} computes with {held[0]!r} itself; call a layer that holds it")
    if len(inputs) != 1:
        names = " and ".join(repr(str(one.target)) for one in inputs) or "nothing"
        raise NoChainError(f"step {node.name!r} joins {names}, so there is a branch")
    return inputs[0]


def as_layers(node: Node) -> list[nn.Module]:
    """The layers that compute what a function or method does: one as a rule, two for some changes of shape."""
    name = function_name(node)
    if name in ("view", "reshape"):
        return _reshaped(node)
    if name == "flatten":
        start, end = _settings(node, ("start_dim", "end_dim"), defaults={"start_dim": 0, "end_dim": -1}).values()
        if start == 0:
            raise NoChainError(f"step {node.name!r} flattens the batch too")
        return [nn.Flatten(start, end)]
    if name == "mean":
        over = _settings(node, ("dim", "keepdim"), defaults={"dim": None, "keepdim": False})
        if over["dim"] is not None and sorted(_pair(over["dim"])) in ([2, 3], [-2, -1]):
            return [nn.AdaptiveAvgPool2d(1), *([] if over["keepdim"] else [nn.Flatten()])]
    if name in DROPOUT:
        drops = _settings(node, ("p", "training", "inplace"), defaults={"p": 0.5, "training": True})
        if drops["training"] and drops["p"] > 0:
            raise NoChainError(f"step {node.name!r} draws at random in eval mode too: give it training=self.training")
        return [nn.Identity()]
    if name in KNOWN:
        kind, arguments = KNOWN[name]
        settings = _settings(node, arguments)
        if "dtype" not in settings:
            return [kind(**{key: value for key, value in settings.items() if key not in UNHEEDED})]
    raise NoChainError(f"step {node.name!r} ({name or node.target}) is no layer that is known here")


def _settings(node: Node, names: tuple[str, ...], *, defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    """The arguments behind the first one by name."""
    given = {**(defaults or {}), **dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
    given = {key: value for key, value in given.items() if key != "input" and (key, value) != ("dtype", None)}
    if len(node.args) > len(names) + 1 or not set(given) <= set(names) or any(_nodes(one) for one in given.values()):
        raise NoChainError(f"step {node.name!r} has arguments that are not known here")
    return given


def _reshaped(node: Node) -> list[nn.Module]:
    """Sizes (batch, ...): the samples stay apart, and the numbers of each are put into another shape."""
    rest: Any = node.args[1:] or tuple(node.kwargs.get(key) for key in ("shape", "size") if key in node.kwargs)
    sizes = list(rest[0]) if len(rest) == 1 and isinstance(rest[0], tuple | list) else list(rest)
    first, inner = (sizes or [None])[0], sizes[1:]
    kept = first == -1 if isinstance(first, int) else isinstance(first, Node) and _is_batch(first)
    if kept and len(inner) == 1 and (isinstance(inner[0], int) or is_count(inner[0])):
        return [nn.Flatten()]
    if kept and inner and all(isinstance(one, int) for one in inner):
        return [nn.Flatten(), nn.Unflatten(1, tuple(inner))]
    raise NoChainError(f"step {node.name!r} does not keep the batch as its first size; write x.flatten(1)")


def function_name(node: Node) -> str:
    """The name of a method, or of a function of PyTorch, without the mark of working in place."""
    if node.op == "call_method":
        return str(node.target).removesuffix("_")
    name = getattr(node.target, "__name__", "")
    homes = (torch, functional, torch._C._nn, operator)
    known = any(getattr(home, name, None) is node.target for home in homes) or node.target is getattr
    return name.removesuffix("_") if known else ""


def is_count(value: Any) -> bool:
    """Whether a step computes with sizes alone."""
    if not isinstance(value, Node) or function_name(value) not in COUNTS:
        return isinstance(value, int)
    if function_name(value) == "getattr":
        return bool(value.args[1] == "shape")
    if function_name(value) in ("size", "dim", "numel"):
        return True
    return all(is_count(one) for one in value.all_input_nodes)


def _is_batch(node: Node) -> bool:
    """Whether a step is the number of samples."""
    if function_name(node) == "size":
        return bool((*node.args[1:], *node.kwargs.values()) == (0,))
    return function_name(node) == "getitem" and bool(node.args[1] == 0) and is_count(node.args[0])


def writes(node: Node, module: nn.Module) -> bool:
    """Whether a step changes its input."""
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    inplace = node.kwargs.get("inplace", len(node.args) > 1 and node.args[-1] is True and function_name(node) in KNOWN)
    return bool(inplace) or name == "setitem" or (name.endswith("_") and not name.endswith("__"))


def _pair(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _nodes(value: Any) -> bool:
    return isinstance(value, Node) or (isinstance(value, tuple | list) and any(_nodes(one) for one in value))
