"""Names of adapters: what ``peft`` saves of a model, and what the parameters of that model are called."""

from collections.abc import Mapping

from torch import Tensor, nn


def adapter_state(model: nn.Module, state: Mapping[str, Tensor], *, adapter: str = "default") -> dict[str, Tensor]:
    """The saved weights of an adapter under the names that they have in the model.

    ``get_peft_model_state_dict`` leaves the adapter's name out, so that ``...lora_A.weight`` is
    ``...lora_A.default.weight`` in the model. Names that the model has stay. Raises ValueError for a name that fits
    neither way.
    """
    known, found = set(model.state_dict()), {}
    for name, value in state.items():
        before, _, last = name.rpartition(".")
        fitting = [one for one in (name, f"{before}.{adapter}.{last}", f"{name}.{adapter}") if one in known]
        if not fitting:
            raise ValueError(
                f"the model has no parameter for {name!r}, with or without the adapter {adapter!r}. Give the name "
                "under which the adapter was added."
            )
        found[fitting[0]] = value
    return found
