"""Local training: the client's steps agree with a plain PyTorch loop, whatever was agreed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy as torch_cross_entropy
from victims import random_batch, small_convnet

from gilib.data import Batch
from gilib.federated import Client, LocalTraining, gradient_weights, seeded_generator


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], *, rtol: float = 1e-9) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=rtol, atol=1e-12)


SCHEDULES = {
    "three steps on everything": ({"steps": 3}, 4, [[0, 1, 2, 3]] * 3),
    "as many steps as batches": ({"steps": 2, "batch_size": 2}, 4, [[0, 1], [2, 3]]),
    "a second epoch begins": ({"steps": 5, "batch_size": 2}, 4, [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]),
    "the last batch is smaller": ({"epochs": 2, "batch_size": 3}, 4, [[0, 1, 2], [3]] * 2),
    "the last batch is dropped": ({"epochs": 2, "batch_size": 3, "drop_last": True}, 4, [[0, 1, 2]] * 2),
    "fewer samples than a batch": ({"epochs": 1, "batch_size": 8}, 3, [[0, 1, 2]]),
    "an agreed order": ({"epochs": 2, "batch_size": 2, "order": [2, 0, 1]}, 3, [[2, 0], [1]] * 2),
    "an order for each epoch": (
        {"epochs": 2, "batch_size": 2, "order": torch.tensor([[2, 0, 1], [1, 2, 0]])},
        3,
        [[2, 0], [1], [1, 2], [0]],
    ),
}
OPTIMIZERS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "dampened": {"momentum": 0.9, "dampening": 0.3},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "decay": {"weight_decay": 0.05},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 5e-3},
    "adam": {"optimizer": "adam", "betas": (0.8, 0.99), "eps": 1e-6},
    "adam and decay": {"optimizer": "adam", "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
}


def loop(model: nn.Module, batch: Batch, batches: list, *, rate: float, **options) -> nn.Module:
    """A plain PyTorch training loop over given batches."""
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = kinds[options.pop("optimizer", "sgd")](model.parameters(), lr=rate, **options)
    for chosen in batches:
        optimizer.zero_grad()
        torch_cross_entropy(model(batch.images[chosen]), batch.labels[chosen]).backward()
        optimizer.step()
    return model


def parameter_change(before: nn.Module, after: nn.Module, rate: float) -> dict[str, torch.Tensor]:
    start, end = dict(before.named_parameters()), dict(after.named_parameters())
    return {name: ((end[name] - start[name]) / -rate).detach() for name in start}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("settings, samples, batches", SCHEDULES.values(), ids=SCHEDULES)
def test_several_steps_agree_with_a_loop(mode, settings, samples, batches):
    model, batch = small_convnet(norm="batch"), random_batch(samples)
    trained = loop(copy.deepcopy(model).train(mode == "train"), batch, batches, rate=0.2)
    local = LocalTraining(learning_rate=0.2, **settings)
    assert local.count(samples) == len(batches)
    update = Client(model, local=local, mode=mode, share_buffers=True).update(batch)
    assert_same(update.gradients, parameter_change(model, trained, 0.2))
    assert_same(update.buffers, dict(trained.named_buffers()))


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_agrees_with_the_one_of_torch(options):
    model, batch = small_convnet(norm="batch"), random_batch(5)
    batches = [[0, 1], [2, 3], [4]] * 3
    trained = loop(copy.deepcopy(model).train(), batch, batches, rate=0.01, **options)
    local = LocalTraining(epochs=3, learning_rate=0.01, batch_size=2, **options)
    update = Client(model, local=local, mode="train").update(batch)
    assert_same(update.gradients, parameter_change(model, trained, 0.01), rtol=1e-7)


@pytest.mark.parametrize(
    "options", [{"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.8, "nesterov": True}]
)
def test_how_much_each_step_counts_with_momentum(options):
    """A linear loss has the same gradient in every step, so the update is the sum of the weights times it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double()
    local, batch = LocalTraining(steps=4, **options), random_batch(1)

    def linear(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits * (targets + 1)).sum()

    one = Client(model, loss=linear).update(batch).gradients
    four = Client(model, loss=linear, local=local).update(batch).gradients
    assert_same(four, {name: sum(gradient_weights(local, 1)) * value for name, value in one.items()})
    assert gradient_weights(LocalTraining(steps=3), 1) == [1, 1, 1]
    assert gradient_weights(LocalTraining(optimizer="adam"), 1) is None


def test_one_step_of_nesterov_is_longer_than_the_gradient():
    model, batch = small_convnet(), random_batch(2)
    plain = Client(model).update(batch).gradients
    stretched = Client(model, local=LocalTraining(momentum=0.5, nesterov=True)).update(batch).gradients
    assert_same(stretched, {name: 1.5 * value for name, value in plain.items()})


def test_a_secret_order_is_the_clients_own_and_is_not_shared():
    model, batch = small_convnet(), random_batch(6)
    secret = LocalTraining(epochs=2, batch_size=2, shuffle=True)
    updates = [Client(model, local=secret, seed=seed).update(batch) for seed in (1, 1, 2)]
    assert_same(updates[0].gradients, updates[1].gradients)
    assert difference(updates[0].gradients, updates[2].gradients) > 1e-6
    assert updates[0].local == secret
    drawn = secret.drawn(6, seeded_generator(7))
    assert [sorted(row) for row in drawn.order] == [[0, 1, 2, 3, 4, 5]] * 2
    assert drawn.order[0] != drawn.order[1]


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 2, "epochs": 2}, "steps or epochs, not both"),
        ({"batch_size": 2, "shuffle": True, "order": [0, 1]}, "give one of them"),
        ({"shuffle": True}, "need a batch_size"),
        ({"optimizer": "lion"}, "'sgd', 'adam' or 'adamw'"),
        ({"optimizer": "adam", "momentum": 0.9}, "belong to 'sgd'"),
        ({"nesterov": True}, "nesterov needs a momentum"),
        ({"weight_decay": -1.0}, "must not be negative"),
        ({"optimizer": "adam", "betas": (0.9, 1.0)}, r"two numbers in \[0, 1\)"),
        ({"batch_size": 2, "order": []}, "order must be a row of indices"),
    ],
)
def test_contradictions_in_local_training_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LocalTraining(**settings)


def test_an_order_of_another_length_is_refused():
    with pytest.raises(ValueError, match="order must name each of the client's 4 samples once"):
        Client(small_convnet(), local=LocalTraining(batch_size=2, order=[0, 1, 1, 3])).update(random_batch(4))
    local = LocalTraining(epochs=3, batch_size=2, order=[[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="add rows"):
        Client(small_convnet(), local=local).update(random_batch(2))
