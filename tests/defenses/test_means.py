"""The mean over clients is the gradient of all their samples, whatever protocol added them, or it is refused."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import random_batch

from gilib import models
from gilib.data import Batch
from gilib.defenses.aggregation_messages import flat, mean_update
from gilib.defenses.encryption import FixedPoint, ckks_keys, paillier_keys
from gilib.defenses.means import agreed, summed_weight, weighed
from gilib.federated import Client, LocalTraining, Update
from gilib.iteration import labels

SAMPLES = random_batch(9, channels=1, size=8, seed=5)


def network() -> nn.Module:
    return models.mlp(channels=1, size=8, classes=10, hidden=(12,), activation="relu", seed=0).double()


def part(start: int, stop: int) -> Batch:
    return Batch(SAMPLES.images[start:stop], SAMPLES.labels[start:stop])


def members(sizes: tuple[int, ...]) -> list[Update]:
    """One update for each number of samples, of neighbouring samples of the nine."""
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [Client(network()).update(part(start, start + size)) for start, size in zip(starts, sizes, strict=True)]


def total(updates: list[Update]) -> torch.Tensor:
    return torch.stack([flat(update) for update in updates]).sum(dim=0)


UNEVEN = (1, 2, 4)


def weighed_members() -> list[Update]:
    return [weighed(update, UNEVEN) for update in members(UNEVEN)]


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
def test_the_mean_of_weighed_members_is_the_gradient_of_all_samples(sizes: tuple[int, ...]) -> None:
    sent = [weighed(update, sizes) for update in members(sizes)]
    assert [update.weight for update in sent] == [size * len(sizes) / sum(sizes) for size in sizes]
    mean = mean_update(total(sent), sent)
    whole = Client(network()).update(part(0, sum(sizes)))
    torch.testing.assert_close(mean.gradients, whole.gradients)
    assert (mean.batch_size, mean.weight) == (sum(sizes), 1.0)


def test_members_of_equal_size_need_no_weights() -> None:
    sent = members((2, 2, 2))
    assert summed_weight(sent) == 3
    mean = mean_update(total(sent), sent)
    torch.testing.assert_close(mean.gradients, Client(network()).update(part(0, 6)).gradients)
    even = weighed(sent[0], [2, 2, 2])
    assert even.weight == 1
    assert all(torch.equal(even.gradients[name], value) for name, value in sent[0].gradients.items())


def test_members_that_drop_out_do_not_spoil_the_mean_of_the_others() -> None:
    sent = weighed_members()[:2]
    mean = mean_update(total(sent), sent)
    torch.testing.assert_close(mean.gradients, Client(network()).update(part(0, 3)).gradients)


def test_labels_counted_in_a_weighed_mean_are_those_of_all_samples() -> None:
    sent, whole = weighed_members(), Client(network()).update(part(0, 7))
    found = labels.counts().restore(mean_update(total(sent), sent), network())
    assert torch.equal(found, labels.counts().restore(whole, network()))
    assert found.tolist() == sorted(SAMPLES.labels[:7].tolist())


def test_different_numbers_of_samples_are_refused_with_the_way_out() -> None:
    sent = members((1, 3))
    with pytest.raises(ValueError, match=r"different numbers of samples \(1 and 3\).*weighed\(update, samples\)"):
        mean_update(total(sent), sent)
    with pytest.raises(ValueError, match=r"different numbers of samples \(1 and 3\)"):
        agreed([weighed(sent[0], [1, 3]), sent[1]])
    with pytest.raises(ValueError, match="weights differ"):
        agreed([replace(update, weight=weight) for update, weight in zip(members((2, 2)), (1.0, 2.0), strict=True)])
    for odd in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="finite and not negative"):
            agreed([replace(update, weight=odd) for update in sent])


@pytest.mark.parametrize(
    "change, field",
    [
        ({"loss": nn.MSELoss()}, "loss"),
        ({"local": LocalTraining(steps=2)}, "local"),
        ({"mode": "train"}, "mode"),
        ({"image_shape": (3, 8, 8)}, "image_shape"),
        ({"gradients": {"other": torch.zeros(3)}}, "parameters"),
    ],
)
def test_members_that_trained_differently_are_refused(change: dict[str, object], field: str) -> None:
    one, other = members((2, 2))
    with pytest.raises(ValueError, match=f"{field} differs"):
        agreed([one, replace(other, **change)])


def test_losses_of_one_kind_and_settings_are_one_loss() -> None:
    one, other = members((2, 2))
    for mine, theirs, same in (
        (nn.MSELoss(), nn.MSELoss(), True),
        (nn.MSELoss(), nn.MSELoss(reduction="sum"), False),
        (nn.BCEWithLogitsLoss(torch.ones(3)), nn.BCEWithLogitsLoss(torch.ones(3)), True),
        (nn.BCEWithLogitsLoss(torch.ones(3)), nn.BCEWithLogitsLoss(torch.zeros(3)), False),
    ):
        pair = [replace(one, loss=mine), replace(other, loss=theirs)]
        if same:
            assert agreed(pair).batch_size == 4
        else:
            with pytest.raises(ValueError, match="loss differs"):
                agreed(pair)


def test_what_members_agree_on_tells_nothing_of_one_of_them() -> None:
    client = Client(network(), share_labels=True, share_buffers=True)
    together = agreed([client.update(part(0, 2)), client.update(part(2, 4))])
    assert (together.gradients, together.labels, together.buffers) == ({}, None, None)
    assert (together.batch_size, together.image_shape, together.weight) == (4, (1, 8, 8), 1.0)
    with pytest.raises(ValueError, match="at least one member"):
        agreed([])


@pytest.mark.parametrize("samples", [[], [1, 3], [2, -1], [0, 0]])
def test_weighing_needs_the_numbers_of_all_members(samples: list[int]) -> None:
    with pytest.raises(ValueError, match="samples of all members, this one's 2"):
        weighed(members((2,))[0], samples)


def test_nothing_is_weighed_twice() -> None:
    with pytest.raises(ValueError, match="weighed before"):
        weighed(weighed_members()[0], UNEVEN)


@pytest.mark.parametrize("scheme", ["paillier", "ckks"])
def test_encrypted_means_weigh_by_samples_too(scheme: str) -> None:
    small = models.mlp(channels=1, size=8, classes=10, hidden=(1,), seed=0).double()
    pair = paillier_keys(FixedPoint(bits=40, bound=64.0), bits=512) if scheme == "paillier" else ckks_keys(bound=64.0)
    public, secret = pair
    plain = [Client(small).update(batch) for batch in (part(0, 1), part(1, 3), part(3, 7))]
    with pytest.raises(ValueError, match=r"different numbers of samples \(1 and 2 and 4\)"):
        public.add([public.encrypt(update) for update in plain])
    messages = [public.encrypt(weighed(update, UNEVEN)) for update in plain]
    whole = Client(small).update(part(0, 7))
    for added in (public.add(messages), public.add([public.add(messages[:2]), messages[2]])):
        mean = secret.decrypt(added)
        torch.testing.assert_close(mean.gradients, whole.gradients, atol=1e-6, rtol=0)
        assert (mean.batch_size, mean.weight) == (7, 1.0)
    left = secret.decrypt(public.add(messages[:2]))
    torch.testing.assert_close(left.gradients, Client(small).update(part(0, 3)).gradients, atol=1e-6, rtol=0)
    other = public.encrypt(replace(plain[0], mode="train"))
    with pytest.raises(ValueError, match="mode differs"):
        public.add([public.encrypt(plain[0]), other])


def test_a_tag_covers_the_weight() -> None:
    public, _ = ckks_keys()
    message = public.encrypt(weighed_members()[0])
    heavier = replace(message, agreed=replace(message.agreed, weight=2.0))
    assert message.tag(b"secret") == replace(message).tag(b"secret") != heavier.tag(b"secret")
