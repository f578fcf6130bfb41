"""What is noticed while somebody's model runs: random draws by what they do, and the cause behind a PyTorch error."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SHARED = {"Python", "NumPy"}
"""Sources that other threads draw from now and then, such as those of a scheduler."""


def random_states(device: torch.device) -> dict[str, Any]:
    """The global random states that a model on ``device`` can draw from, by their source."""
    numpy: Any = np.random.get_state()  # noqa: NPY002 - it is watched, not used
    states = {
        "PyTorch": torch.get_rng_state().numpy().tobytes(),
        "Python": random.getstate(),
        "NumPy": (numpy[1].tobytes(), *numpy[2:]),
    }
    return states | ({"card": torch.cuda.get_rng_state(device).tolist()} if device.type == "cuda" else {})


@contextmanager
def preserved_randomness(device: torch.device) -> Iterator[Callable[[], set[str]]]:
    """Leave the global random states as they were, and give a function that says from which something was drawn."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is watched, not used
    before = random_states(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield lambda: {source for source, state in random_states(device).items() if state != before[source]}
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - it is put back


def draws_each_time(run: Callable[[], object], device: torch.device, *, times: int = 3) -> bool:
    """Whether every one of several runs moves the global random states: once, another thread may have drawn."""
    for _ in range(times):
        before = random_states(device)
        run()
        if random_states(device) == before:
            return False
    return True


def drawing_layer(forward: Callable[..., Any], parameters: dict[str, Tensor], images: Tensor) -> str:
    """The innermost layer in whose forward pass something is drawn, in words."""
    module = next((cell.cell_contents for cell in forward.__closure__ or () if _is_module(cell)), None)
    if module is None:
        return "its forward pass"
    open_layers: list[tuple[str, dict[str, Any]]] = []
    found: list[str] = []

    def enter(layer: nn.Module, inputs: Any, name: str) -> None:
        open_layers.append((name, random_states(images.device)))

    def leave(layer: nn.Module, inputs: Any, output: Any) -> None:
        name, before = open_layers.pop()
        if not found and random_states(images.device) != before:
            found.append(
                f"layer {name!r} ({type(layer).__name__})" if name else f"the forward pass of {type(layer).__name__}"
            )

    hooks = []
    for name, part in module.named_modules():
        hooks.append(part.register_forward_pre_hook(lambda layer, inputs, name=name: enter(layer, inputs, name)))
        hooks.append(part.register_forward_hook(leave))
    try:
        forward(parameters, images)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "its forward pass"


def _is_module(cell: Any) -> bool:
    return isinstance(cell.cell_contents, nn.Module)


CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"setup_context",
        "it uses activation checkpointing, or an autograd.Function of its own in the older form. Switch checkpointing "
        "off: it saves memory and changes no number. Give the function a setup_context",
    ),
    (
        r"saved tensor hooks|[Cc]heckpoint",
        "it uses activation checkpointing, which cannot be differentiated again. Switch checkpointing off: it saves "
        "memory and changes no number",
    ),
    (
        r"data-dependent|\.item\(\)|__bool__|control flow",
        "its forward pass depends on values of the data (control flow or .item())",
    ),
    (r"uninitialized|Uninitialized", "it has layers without shapes yet: run one forward pass first"),
    (
        r"same device|on device|device type|Expected all tensors",
        "its parts are on different devices: move the whole model to one of them",
    ),
    (
        r"same dtype|scalar type|should be the same|[Dd]ouble but|[Ff]loat but|expected m1 and m2",
        "its parts have different dtypes: use model.float() or model.double()",
    ),
    (
        r"shape|size|mat1|mat2|channels|dimension|broadcast|elements|kernel|view",
        "the sizes do not fit. Build the model for the channels and size of the images, or resize them",
    ),
)
"""Words in an error of PyTorch, and the cause in ours."""

JARGON = r"functorch|vmap|aten::|please file|not implemented for|is not implemented|github\.com"


def explained(error: BaseException) -> str:
    """The cause of an error that somebody's model raised, in plain words, with the error's own where they help."""
    own = str(error).strip().split("\n")[0][:160]
    quoted = f" ({own})" if own and not re.search(JARGON, own) else ""
    if missing := re.search(r"derivative for (?:aten::)?_?(\w+?)(?:_backward)? is not implemented", str(error)):
        return (
            f"PyTorch has no second derivative of {missing[1]}. Write that step with operations that have one, or "
            "replace the layer"
        )
    for pattern, cause in CAUSES:
        if re.search(pattern, str(error)):
            return f"{cause}{quoted}."
    return f"{type(error).__name__}{quoted}."
