"""Second derivatives for layers whose fast kernels have none.

A client needs one derivative, an attack the derivative of a derivative. Fused attention, the fast path of encoder
blocks, the fused LSTM and Hardsigmoid have only the first. The same functions written out have both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import relu6
from torch.overrides import TorchFunctionMode


class WrittenOut(TorchFunctionMode):
    """Replaces functions by what they compute, in operations that can be differentiated twice."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in HARDSIGMOIDS:
            return _hardsigmoid(*args, **(kwargs or {}))
        if func in RECURRENT:
            return _without_fused_kernels(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _without_fused_kernels(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Neither oneDNN nor cuDNN, whose recurrent layers on a card have no first derivative in eval mode either.

    The flags of torch.backends would do it, but they also set precisions and warn about graphics cards.
    """
    onednn, cudnn = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    torch._C._set_cudnn_enabled(False)
    try:
        return func(*args, **kwargs)
    finally:
        torch._C._set_mkldnn_enabled(onednn)
        torch._C._set_cudnn_enabled(cudnn)


def _hardsigmoid(inputs: Tensor, inplace: bool = False) -> Tensor:
    return relu6(inputs + 3) / 6


HARDSIGMOIDS = {torch._C._nn.hardsigmoid, torch._C._nn.hardsigmoid_, torch.nn.functional.hardsigmoid}
RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Run what is inside with operations that have a second derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), WrittenOut():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
