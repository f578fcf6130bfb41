"""A model as a chain of layers, found from what runs and not from the order in which the layers were defined.

A forward pass is traced one module at a time (``torch.fx``): a module whose graph has no branch is the chain of its
parts, any other one is a layer of its own. Functions such as ``relu`` or ``flatten`` become the layers that compute the
same.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from gilib.draws import RandomLayer, seeded_generator
from gilib.federated.functional import checked_logits, reference, working_copy
from gilib.federated.noticed import preserved_randomness
from gilib.traced import NoChainError, as_layers, function_name, graph_of, input_of, is_count, returned, writes

Shape = tuple[int, ...]
Links = list[tuple[str, nn.Module]]


def chain(model: nn.Module, *, image_shape: Shape | None = None) -> Links:
    """The layers of a model with their names, in the order in which they run; a layer that runs twice comes twice.

    Nested ``nn.Sequential`` gives its layers. Any other module is traced, and its functions become layers that have the
    name of the step and no parameters. A part that is no chain itself, such as a residual block, is one layer. With
    ``image_shape`` (C, H, W) the layers are run in order, in float64, and must give the model's own logits; no hook may
    change them. Raises ValueError where the model's own forward pass branches, joins, depends on values, or calls a
    function that has no layer, and says which; and where the layers in order compute something else.
    """
    if image_shape is not None:
        check_hooks(model, image_shape)
    if all(_is_layer(part) for _, part in leaves(model)):
        return list(leaves(model))
    working = working_copy(model, mode="eval")
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    try:
        with preserved_randomness(device):
            links = _links(working, "", top=True)
    except NoChainError as error:
        raise ValueError(f"{type(model).__name__} is no chain of layers: {error}.") from error
    if image_shape is not None:
        _check(working, links, image_shape)
    own = dict(working.named_modules(remove_duplicate=False))
    return [(name, model.get_submodule(name) if own.get(name) is part else part) for name, part in links]


def opening(model: nn.Module) -> Links:
    """The layers that run first, up to where the model branches; all of them where it is a chain.

    Raises ValueError like ``chain``, but only for a model that cannot be traced at all.
    """
    try:
        return chain(model)
    except ValueError:
        working = working_copy(model, mode="eval")
    try:
        graph = graph_of(working)
    except NoChainError as error:
        raise ValueError(f"the first layer of {type(model).__name__} was not found: {error}.") from error
    node, found = next(iter(graph.nodes)), []
    with suppress(NoChainError):
        while len(users := [user for user in node.users if not is_count(user)]) == 1:
            node = users[0]
            input_of(node)
            if node.op == "call_module":
                found += _links(working.get_submodule(str(node.target)), str(node.target))
            else:
                found += [(node.name, layer) for layer in as_layers(node)]
    return found


def leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The parts of nested ``nn.Sequential`` in the order they run; a part that stands twice comes twice."""
    if not _is_sequential(module):
        yield name or "model", module
        return
    for child, part in module._modules.items():  # named_children would drop the second of two
        assert part is not None
        yield from leaves(part, _join(name, child))


def last_linear(model: nn.Module, *, image_shape: Shape | None = None) -> str:
    """The name of the fully connected layer (``nn.Linear`` or a subclass) whose output is the logits.

    Nested ``nn.Sequential`` is read; any other model is traced, or with ``image_shape`` (C, H, W) run once, which works
    for every forward pass. Log-softmax and dropout in eval mode may stand behind the layer, and whatever stands before
    it may branch. The order of definition plays no role. Raises ValueError where the logits do not come from one such
    layer, where that layer runs more than once, and where the model can neither be read nor traced.
    """
    working = working_copy(model, mode="eval")
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    try:
        if image_shape is not None and not _is_sequential(working):
            return _by_running(working, image_shape)
        with preserved_randomness(device):
            return _last(working, "")
    except NoChainError as error:
        raise ValueError(
            f"the layer whose output is the logits of {type(model).__name__} was not found: {error}. The last layer "
            "must be a fully connected one (nn.Linear) that runs once; otherwise name the layer yourself, where that "
            "can be done."
        ) from error


def _links(module: nn.Module, name: str, *, top: bool = False) -> Links:
    """The chain of one module of that name; itself where it is no chain, but for the model as a whole."""
    if hasattr(module, "_orig_mod"):  # torch.compile wraps it
        return _links(module.get_submodule("_orig_mod"), _join(name, "_orig_mod"), top=top)
    if _is_sequential(module):
        parts = [(_join(name, child), part) for child, part in module._modules.items() if part is not None]
        return [link for child, part in parts for link in _links(part, child)]
    if _is_layer(module) or isinstance(module, RandomLayer):
        return [(name or "model", module)]
    try:
        found: Links = []
        for node in _path(module):
            if node.op == "call_module":
                found += _links(module.get_submodule(str(node.target)), _join(name, str(node.target)))
            else:
                found += [(_join(name, node.name), layer) for layer in as_layers(node)]
    except NoChainError:
        if top:
            raise
        return [(name, module)]
    return found or [(name or "model", nn.Identity())]


def _path(module: nn.Module) -> list[Node]:
    """The steps from the input to the output."""
    graph = graph_of(module)
    node, path = returned(graph), []
    while node.op != "placeholder":
        if node.op == "get_attr":
            raise NoChainError(f"the output does not come from the images but from {str(node.target)!r}")
        path.append(node)
        node = input_of(node)
    on_path = {node, *path}
    for other in graph.nodes:
        if other not in on_path and writes(other, module) and on_path & set(other.all_input_nodes):
            raise NoChainError(f"step {other.name!r} changes a tensor in place, beside the chain")
    return path[::-1]


def check_hooks(model: nn.Module, image_shape: Shape) -> None:
    """Raise ValueError if a hook changes the logits or their gradient: who reads the layers does not see it."""
    hooked = [name for name, part in model.named_modules() if any(_hooks(part))]
    if not hooked:
        return
    working = working_copy(model, mode="eval").to(torch.device("cpu"), torch.float64)
    with_hooks = _logits_and_slopes(working, _probe(image_shape))
    for part in working.modules():
        for hooks in _hooks(part):
            hooks.clear()
    without = _logits_and_slopes(working, _probe(image_shape))
    if not all(map(torch.equal, with_hooks, without)):
        raise ValueError(
            f"a hook changes what the model computes, at one of {hooked}. The layers do not tell of it: write the "
            "change as a layer of its own, or remove the hook."
        )


def _hooks(part: nn.Module) -> tuple[dict[int, Any], ...]:
    return part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks


def _logits_and_slopes(working: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits of images (B, C, H, W) and the gradients of their squares by all parameters."""
    with torch.enable_grad():
        logits = checked_logits(lambda _, value: working(value), {}, images.requires_grad_())
        slopes = torch.autograd.grad(logits.square().sum(), [*working.parameters()], materialize_grads=True)
    return [logits.detach(), *slopes]


def _check(working: nn.Module, links: Links, image_shape: Shape) -> None:
    """Compare the layers in order with the model, at random images in float64."""
    working = working.to(torch.device("cpu"), torch.float64)  # a copy; its layers are those of the chain
    images = _probe(image_shape)
    logits = checked_logits(lambda _, value: working(value), {}, images)
    value = images
    try:
        with torch.no_grad():
            for _, layer in links:
                value = layer(value)
        same = value.shape == logits.shape and torch.allclose(value, logits, rtol=1e-9, atol=1e-12)
    except Exception:  # whatever a layer raises, the chain is not the model
        same = False
    if not same:
        raise ValueError(
            f"{type(working).__name__} is no chain of layers: {', '.join(name for name, _ in links)} in that order "
            "give other logits than the model. Write it as nn.Sequential."
        )


def _by_running(working: nn.Module, image_shape: Shape) -> str:
    """The fully connected layer whose output the logits are, or their log-softmax, on random images."""
    seen: list[tuple[str, Tensor]] = []
    for name, part in working.named_modules():
        if isinstance(part, nn.Linear):
            part.register_forward_hook(lambda layer, inputs, output, name=name: seen.append((name, output.clone())))
    images = _probe(image_shape).to(reference(working))
    with torch.no_grad():
        logits = checked_logits(lambda _, value: working(value), {}, images)
    alike: list[Callable[[Tensor], Tensor]] = [lambda z: z, lambda z: z.log_softmax(dim=-1)]
    names = [name for name, z in seen if z.shape == logits.shape and any(logits.equal(f(z)) for f in alike)]
    if len(names) != 1 or [name for name, _ in seen].count(names[0]) > 1:
        raise NoChainError(
            "no fully connected layer gives them" if not names else f"layer {names[0]!r} runs more than once"
        )
    return names[0]


def _probe(image_shape: Shape) -> Tensor:
    return torch.rand(2, *image_shape, generator=seeded_generator(0), dtype=torch.float64, device="cpu")


def _last(module: nn.Module, name: str) -> str:
    """The name of the last fully connected layer of a module of that name."""
    if hasattr(module, "_orig_mod"):
        return _last(module.get_submodule("_orig_mod"), _join(name, "_orig_mod"))
    if isinstance(module, nn.Linear):
        return name
    if _is_sequential(module):
        parts = [(child, part) for child, part in module._modules.items() if part is not None]
        child, last = next(((child, part) for child, part in parts[::-1] if not _keeps(part)), ("", nn.Identity()))
        uses = sum(part is last for _, part in parts)
    elif _is_layer(module):
        raise NoChainError(f"{name or 'the model'!r} ({type(module).__name__}) gives them")
    else:
        graph = graph_of(module)
        node = returned(graph)
        while _is_kept(node, module):
            node = input_of(node)
        if node.op != "call_module":
            raise NoChainError(f"step {node.name!r} ({function_name(node) or node.target}) gives them")
        child, last = str(node.target), module.get_submodule(str(node.target))
        uses = sum(one.op == "call_module" and one.target == node.target for one in graph.nodes)
    if uses > 1:
        raise NoChainError(f"layer {_join(name, child)!r} runs more than once")
    return _last(last, _join(name, child))


def _is_kept(node: Node, module: nn.Module) -> bool:
    """Whether a step hands the logits on as they are, or as their log-softmax, which has the same cross-entropy."""
    if node.op == "call_module":
        return _keeps(module.get_submodule(str(node.target)))
    if node.op not in ("call_function", "call_method"):
        return False
    try:
        return all(_keeps(layer) for layer in as_layers(node))
    except NoChainError:
        return False


def _keeps(layer: nn.Module) -> bool:
    if isinstance(layer, nn.LogSoftmax):
        return layer.dim in (1, -1)
    return isinstance(layer, nn.Identity | nn.Flatten | nn.modules.dropout._DropoutNd)


def _is_sequential(module: nn.Module) -> bool:
    """Whether it runs its parts in order: a subclass may have a forward pass of its own."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _is_layer(module: nn.Module) -> bool:
    """Whether PyTorch itself defines what it computes."""
    home = str(getattr(module.forward, "__module__", ""))
    return home.startswith("torch.nn.") and not isinstance(module, nn.Sequential) and not hasattr(module, "_orig_mod")


def _join(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child
