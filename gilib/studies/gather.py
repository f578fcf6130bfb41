"""Results of a study by their settings: all cells that agree, one after another."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, tensor

from gilib.studies.cell import Result


def gathered(results: Iterable[Result], **wanted: Any) -> dict[str, Tensor]:
    """What was measured for every image in the results with the ``wanted`` settings, by the name of the measure.

    A setting is compared as `gilib.studies.describe` writes it; a mapping asks for some of the fields of a part, as in
    ``gathered(results, setting="cosine", net={"name": "ResNet-8", "stage": 0})``. ``named`` is added where the results
    hold the ``nearest`` candidate and the ``own``: whether they are the same.

    Raises ValueError where no result has these settings.

    Taught in: defenses/distributed_privacy.
    """
    chosen = [one for one in results if _agrees(one["settings"], wanted)]
    if not chosen:
        raise ValueError(f"no result of this study has the settings {wanted}.")
    names = [name for name, value in chosen[0].items() if isinstance(value, list)]
    found = {name: tensor([value for one in chosen for value in one[name]]) for name in names}
    if {"nearest", "own"} <= found.keys():
        found["named"] = found["nearest"] == found["own"]
    return found


def _agrees(settings: Any, wanted: Mapping[str, Any]) -> bool:
    return all(
        _agrees(settings[name], value) if isinstance(value, Mapping) else settings[name] == value
        for name, value in wanted.items()
    )
