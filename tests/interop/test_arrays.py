"""Lists of arrays, as NumPy clients and OpenFL exchange them: what fits comes in, what does not is named."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.flower import task
from gilib import models
from gilib.federated import Client, LocalTraining
from gilib.interop.kept import Kept

RATE = 0.1
BATCH = task.partition(0, 4)
HOW = {"image_shape": (1, 8, 8), "local": LocalTraining(learning_rate=RATE), "mode": "train"}


def network() -> nn.Module:
    return models.convnet(channels=1, size=8, widths=(4, 4), norm="batch")


def trained() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The arrays before and after one step in training mode, buffers included."""
    model = network()
    before = [value.numpy().copy() for value in model.state_dict().values()]
    task.train(model, BATCH, epochs=1, batch_size=4, lr=RATE, seed=0)
    return before, [value.numpy() for value in model.state_dict().values()]


def kept(before: list[np.ndarray], after: list[np.ndarray]) -> Kept:
    return Kept(before, after, node=1, round=1, examples=4)


def close(update, expected) -> None:
    for name, value in expected.gradients.items():
        torch.testing.assert_close(update.gradients[name], value, rtol=1e-3, atol=1e-5)


def test_buffers_and_counters_come_in():
    before, after = trained()
    assert {array.dtype for array in after} == {np.dtype("float32"), np.dtype("int64")}
    _, update = kept(before, after).update(network(), share_buffers=True, **HOW)
    close(update, Client(network(), mode="train").update(BATCH))
    names = list(network().state_dict())
    assert set(update.buffers) == {name for name, _ in network().named_buffers()}
    for name, value in update.buffers.items():
        assert np.array_equal(value.numpy(), after[names.index(name)])
    assert int(next(value for name, value in update.buffers.items() if "num_batches" in name)) == 1


def test_counters_may_come_as_floating_point_numbers():
    """Engines that average every array send the number of batches as a float."""
    before, after = ([array.astype(np.float32) for array in one] for one in trained())
    _, update = kept(before, after).update(network(), **HOW)
    close(update, Client(network(), mode="train").update(BATCH))


def test_parameters_alone_come_in():
    names = [name for name, _ in network().named_parameters()]
    places = [list(network().state_dict()).index(name) for name in names]
    before, after = ([one[place] for place in places] for one in trained())
    _, update = kept(before, after).update(network(), **HOW)
    close(update, Client(network(), mode="train").update(BATCH))


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_another_number_of_arrays_is_refused(change):
    before, after = trained()
    after = after[:-1] if change == "missing" else [*after, after[-1]]
    with pytest.raises(ValueError, match=rf"as {len(before)} arrays .* or the \d+ parameters alone; got {len(after)}"):
        kept(before, after).update(network(), **HOW)


def test_another_order_is_refused_and_named():
    """Sorted by name, as OpenFL's dictionaries may come."""
    names = list(network().state_dict())
    order = sorted(range(len(names)), key=lambda place: names[place])
    assert order != list(range(len(names)))
    before, after = ([one[place] for place in order] for one in trained())
    with pytest.raises(ValueError, match=r"order of model\.state_dict\(\)"):
        kept(before, after).update(network(), **HOW)


def test_a_dictionary_of_arrays_comes_in_by_name_in_any_order():
    """What OpenFL exchanges."""
    names = list(network().state_dict())
    before, after = (
        dict(sorted((name, torch.from_numpy(array)) for name, array in zip(names, one, strict=True)))
        for one in trained()
    )
    _, update = Kept(before, after, node=1, round=1, examples=4).update(network(), **HOW)
    close(update, Client(network(), mode="train").update(BATCH))


def test_a_dictionary_of_numpy_arrays_comes_in_too():
    names = list(network().state_dict())
    before, after = (dict(zip(names, one, strict=True)) for one in trained())
    _, update = Kept(before, after, node=1, round=1, examples=4).update(network(), **HOW)
    close(update, Client(network(), mode="train").update(BATCH))


def test_weights_that_cannot_be_are_refused():
    before, after = trained()
    broken = [array.copy() for array in after]
    broken[0][0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        kept(before, broken).update(network(), **HOW)
    with pytest.raises(ValueError, match="no trainable weight has changed"):
        kept(before, before).update(network(), **HOW)
