"""An update that a real client sent, as the target of an audit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from gilib.audit.given import loaded_tensors
from gilib.audit.target import Target
from gilib.federated import Update
from gilib.interop.kept import loaded


def received(target: Target, before: Path | str, after: Path | str) -> Target:
    """The target with what one real client sent: the state dicts that it received and sent back, as files.

    The target's client says how that client trains, and the first ``batch`` images are those that it trained on. Raises
    FileNotFoundError, and ValueError for files without weights and for weights of another model.
    """
    start, end = _weights(before), _weights(after)
    model = loaded(target.client.model, start)
    client = replace(target.client, model=model)
    shape = target.truth.shape
    update = Update.from_state_dicts(
        model,
        start,
        end,
        batch_size=target.batch,
        image_shape=(shape[1], shape[2], shape[3]),
        local=client.local,
        share_buffers=client.share_buffers,
        loss=client.loss,
        mode=client.mode,
        public={one.name: one.public for one in client.defenses},
    )
    return replace(target, client=client, sent=(update,))


def _weights(path: Path | str) -> Mapping[str, Tensor]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}. It should hold a state dict, by torch.save.")
    return loaded_tensors(path)
