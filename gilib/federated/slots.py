"""Call a module with other parameters: what ``torch.func.functional_call`` does, with the places looked up once.

Looking them up in every call took a fifth of the time of an attack on a network of many small layers.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Place = tuple[dict[str, Any], str]


class Slots:
    """Where ``module`` keeps its parameters and buffers. A tensor that two layers share has two places."""

    def __init__(self, module: nn.Module) -> None:
        places: dict[int, list[Place]] = defaultdict(list)
        for part in module.modules():
            for store in (part._parameters, part._buffers):
                for key, value in store.items():
                    places[id(value)].append((store, key))
        named = [*module.named_parameters(), *module.named_buffers()]
        self.places = {name: places[id(value)] for name, value in named}

    @contextmanager
    def filled(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Put ``values`` in place of the tensors of the same names, and those back in the end."""
        before: list[tuple[Place, Any]] = []
        try:
            for name, value in values.items():
                for store, key in self.places[name]:
                    before.append(((store, key), store[key]))
                    store[key] = value
            yield
        finally:
            for (store, key), original in before:
                store[key] = original
