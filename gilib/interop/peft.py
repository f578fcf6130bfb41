"""Names of adapters: what ``peft`` saves of a model, and what the parameters of that model are called."""

from collections.abc import Mapping

from torch import Tensor, nn


def adapter_state(model: nn.Module, state: Mapping[str, Tensor], *, adapter: str = "default") -> dict[str, Tensor]:
    """The saved weights of an adapter under the names that they have in the model.

    ``get_peft_model_state_dict`` leaves the adapter's name out: ``...lora_A.weight`` is ``...lora_A.default.weight`` in
    the model, and a layer that is trained beside the adapter, ``...head.weight``, is
    ``...head.modules_to_save.default.weight``. Names that the model has stay. The frozen weights are not among them:
    an update takes ``{**model.state_dict(), **adapter_state(model, saved)}``. Raises ValueError for a name that fits no
    way, or more than one, and for another shape.
    """
    known, found = model.state_dict(), {}
    for name, value in state.items():
        fitting = [one for one in _candidates(name, adapter) if one in known]
        if not fitting:
            raise ValueError(
                f"the model has no parameter for {name!r}, with or without the adapter {adapter!r}. Give the name "
                "under which the adapter was added."
            )
        if fitting[0] != name and len(fitting) > 1:
            raise ValueError(f"{name!r} may be {' or '.join(map(repr, fitting))} of the model: give its full name.")
        if known[fitting[0]].shape != value.shape:
            raise ValueError(
                f"expected {name!r} of shape {tuple(known[fitting[0]].shape)}, as {fitting[0]!r} has in the model; got "
                f"{tuple(value.shape)}. Is its rank that of the adapter?"
            )
        found[fitting[0]] = value
    return found


def _candidates(name: str, adapter: str) -> list[str]:
    """The name itself, and with the adapter's name at every place."""
    parts = name.split(".")
    places = range(1, len(parts) + 1)
    inserted = [[*parts[:place], *more, *parts[place:]] for place in places for more in _more(adapter)]
    return [name, *(".".join(one) for one in inserted)]


def _more(adapter: str) -> tuple[tuple[str, ...], ...]:
    return (adapter,), ("modules_to_save", adapter)
