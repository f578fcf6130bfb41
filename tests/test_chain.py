"""A model as a chain of layers: what runs, in its order, or the name of what stands in the way."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from victims import nothing_changes

from gilib import data, metrics, models
from gilib.chain import chain, last_linear
from gilib.federated import Client
from gilib.recursion import rgap, spear

SHAPE = (3, 32, 32)


class Quickstart(nn.Module):
    """Two convolutions with pooling, three fully connected layers, all activations as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc3, self.fc2, self.fc1 = nn.Linear(84, 10), nn.Linear(120, 84), nn.Linear(400, 120)
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        x = functional.relu(self.fc1(x))
        return self.fc3(functional.relu(self.fc2(x)))


class Of(nn.Module):
    """A forward pass of the test's own around some layers."""

    def __init__(self, run, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


def dense(run, *, size: int = 192) -> Of:
    return Of(run, head=nn.Linear(16, 10), body=nn.Linear(size, 16))


def kinds(found: list[tuple[str, nn.Module]]) -> list[str]:
    return [type(part).__name__ for _, part in found]


def test_the_chain_is_what_runs_and_not_what_is_defined():
    model = Quickstart()
    found = chain(model, image_shape=SHAPE)
    with_parameters = [name for name, part in found if any(True for _ in part.parameters())]
    assert with_parameters == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [name for name, _ in found].count("pool") == 2
    assert kinds(found)[:6] == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d"]
    assert found[0][1] is model.conv1
    assert model.calls == 0
    images = torch.rand(3, *SHAPE)
    value = images
    for _, part in found:
        value = part(value)
    assert torch.equal(value, model(images))


def test_sequential_keeps_its_names():
    model = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(192, 8)), nn.ReLU(), nn.Linear(8, 5))
    assert [name for name, _ in chain(model)] == ["0.0", "0.1", "1", "2"]
    relu = nn.ReLU()
    twice = nn.Sequential(nn.Flatten(), relu, nn.Linear(192, 8), relu)
    assert [name for name, part in chain(twice) if part is relu] == ["1", "3"]
    residual = models.resnet(size=8, width=4)
    assert "Residual" in kinds(chain(residual))
    assert chain(nn.Sequential(Quickstart(), nn.Tanh()))[0][0] == "0.conv1"


STEPS = {
    "flatten": (lambda x: torch.flatten(x, 1), ["Flatten"]),
    "flatten method": (lambda x: x.flatten(start_dim=1), ["Flatten"]),
    "view size": (lambda x: x.view(x.size(0), -1), ["Flatten"]),
    "view shape": (lambda x: x.view(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]), ["Flatten"]),
    "unpacked": (lambda x: (lambda b, c, h, w: x.reshape(b, c * h * w))(*_sizes(x)), ["Flatten"]),
    "torch.reshape": (lambda x: torch.reshape(x, (-1, 192)), ["Flatten"]),
    "view of an image": (lambda x: x.view(-1, 3, 4, 16).flatten(1), ["Flatten", "Unflatten", "Flatten"]),
    "torch.relu": (lambda x: torch.relu(x - 0.5 if False else x).flatten(1), ["ReLU", "Flatten"]),
    "relu_": (lambda x: x.flatten(1).contiguous().clone().relu_(), ["Flatten", "Identity", "Identity", "ReLU"]),
    "sigmoid": (lambda x: x.sigmoid().tanh().flatten(1), ["Sigmoid", "Tanh", "Flatten"]),
    "softplus": (lambda x: functional.softplus(x, 2.0).flatten(1), ["Softplus", "Flatten"]),
    "slope": (lambda x: functional.leaky_relu(x, 0.3).flatten(1), ["LeakyReLU", "Flatten"]),
    "dropout": (lambda x: functional.dropout(x.flatten(1), 0.5, training=False), ["Flatten", "Identity"]),
}


def _sizes(x):
    batch, channels, height, width = x.shape
    return batch, channels, height, width


@pytest.mark.parametrize("name", STEPS)
def test_functions_become_the_layers_that_compute_the_same(name):
    step, expected = STEPS[name]
    model = dense(lambda self, x: self.head(self.body(step(x))))
    assert kinds(chain(model, image_shape=(3, 8, 8))) == [*expected, "Linear", "Linear"]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (lambda x: functional.avg_pool2d(x, 2).flatten(1), "AvgPool2d"),
        (lambda x: functional.max_pool2d(x, kernel_size=2, stride=2).flatten(1), "MaxPool2d"),
        (lambda x: functional.adaptive_avg_pool2d(x, (4, 4)).flatten(1), "AdaptiveAvgPool2d"),
        (lambda x: functional.interpolate(x, size=4).flatten(1), None),
    ],
)
def test_pooling_by_function(step, expected):
    model = dense(lambda self, x: self.head(self.body(step(x))), size=48)
    if expected is None:
        with pytest.raises(ValueError, match="interpolate"):
            chain(model)
    else:
        assert kinds(chain(model, image_shape=(3, 8, 8)))[0] == expected


def test_a_mean_over_positions_is_average_pooling():
    model = dense(lambda self, x: self.head(self.body(x.mean([2, 3]))), size=3)
    assert kinds(chain(model, image_shape=(3, 8, 8)))[:2] == ["AdaptiveAvgPool2d", "Flatten"]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda self, x: self.head(self.body(x.flatten(1)) + self.body(x.flatten(1))), "'add' joins 'body' and"),
        (lambda self, x: self.head(torch.cat([self.body(x.flatten(1)), self.body(x.flatten(1))], 1)), "'cat' joins"),
        (lambda self, x: self.head(self.body(x.flatten(1)) if x.mean() > 0 else x), "branches on values or sizes"),
        (lambda self, x: self.head(self.body(2 * x.flatten(1))), "'mul'"),
        (lambda self, x: self.head(functional.linear(x.flatten(1), self.body.weight)), "computes with 'body.weight'"),
        (lambda self, x: self.head(self.body(x.view(len(x), -1))), r"write x\.size\(0\)"),
        (lambda self, x: self.head(functional.dropout(self.body(x.flatten(1)))), "draws at random"),
        (lambda self, x: (self.head(self.body(x.flatten(1))), x), "returns a tuple"),
        (lambda self, x: self.head(self.body(x.flatten())), "flattens the batch"),
        (lambda self, x: _forgotten(self, x), "in place"),
    ],
)
def test_what_is_no_chain_is_named(run, words, capfd):
    model = dense(run)
    with nothing_changes(model, capfd), pytest.raises(ValueError, match=f"Of is no chain of layers: .*{words}"):
        chain(model)


def _forgotten(self, x):
    hidden = self.body(x.flatten(1))
    functional.relu(hidden, inplace=True)  # its result is not used, and still it changes what is
    return self.head(hidden)


class Typed(nn.Module):
    """A check of the type that a trace answers differently than a run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 5)

    def forward(self, x):
        return self.head(torch.tanh(x.flatten(1)) if isinstance(x, torch.Tensor) else x.flatten(1))


def test_a_chain_that_computes_something_else_is_refused():
    with pytest.raises(ValueError, match="give other logits than the model"):
        chain(Typed(), image_shape=(3, 8, 8))


def test_a_block_that_is_no_chain_is_one_layer():
    block = dense(lambda self, x: x + self.body(x), size=16)
    model = Of(lambda self, x: self.head(self.block(self.body(x.flatten(1)))), block=block, body=nn.Linear(192, 16))
    model.head = nn.Linear(16, 10)
    assert [name for name, _ in chain(model, image_shape=(3, 8, 8))] == ["flatten", "body", "block", "head"]


def test_optional_arguments_are_left_out():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 5)

        def forward(self, x, mask=None, features=False):
            if mask is not None:
                x = x * mask
            x = x.flatten(1)
            return x if features else self.head(x)

    assert kinds(chain(Masked(), image_shape=(3, 8, 8))) == ["Flatten", "Linear"]
    assert last_linear(Masked()) == "head"


def test_a_subclass_of_sequential_runs_by_its_own_rule():
    class Backwards(nn.Sequential):
        def forward(self, x):
            return self[0](self[1](x.flatten(1)))

    model = Backwards(nn.Linear(16, 5), nn.Linear(192, 16))
    assert [name for name, _ in chain(model, image_shape=(3, 8, 8))] == ["flatten", "1", "0"]
    assert last_linear(model) == "0"


def test_a_compiled_model_keeps_the_names_of_its_parameters():
    model = torch.compile(Quickstart())
    assert last_linear(model) == "_orig_mod.fc3"
    assert "_orig_mod.fc3.weight" in dict(model.named_parameters())
    assert chain(model)[-1][0] == "_orig_mod.fc3"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Quickstart(), "fc3"),
        (torchvision.models.resnet18(num_classes=10), "fc"),
        (models.resnet(size=8, width=4), "linear"),
        (models.lenet(size=8), "linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Dropout(), nn.LogSoftmax(dim=1)), "1"),
        (nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(192, 5))), "1.0"),
        (dense(lambda self, x: functional.log_softmax(self.head(self.body(x.flatten(1))), dim=1)), "head"),
        (dense(lambda self, x: {"logits": self.head(self.body(x.flatten(1))).view(-1, 10)}), "head"),
        (dense(lambda self, x: functional.dropout(self.head(self.body(x.flatten(1))), 0.1, self.training)), "head"),
    ],
)
def test_the_last_fully_connected_layer(model, name, capfd):
    shape = (3, 64, 64) if isinstance(model, torchvision.models.ResNet) else SHAPE
    shape = shape if isinstance(model, torchvision.models.ResNet | Quickstart) else (3, 8, 8)
    with nothing_changes(model, capfd):
        assert last_linear(model) == name
        assert last_linear(model, image_shape=shape) == name


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda self, x: self.head(self.body(x.flatten(1))) / 2, "'truediv'"),
        (lambda self, x: self.head(self.body(x.flatten(1))) + self.head(self.body(x.flatten(1))), "'add'"),
        (lambda self, x: torch.sigmoid(self.head(self.body(x.flatten(1)))), "'sigmoid'"),
        (lambda self, x: x.flatten(1)[:, :5], "'getitem'"),
    ],
)
def test_other_ends_are_refused_with_a_remedy(run, words):
    with pytest.raises(ValueError, match=f"{words}.*name the layer yourself"):
        last_linear(dense(run))
    with pytest.raises(ValueError, match="name the layer yourself"):
        last_linear(dense(run), image_shape=(3, 8, 8))


def test_a_last_layer_that_runs_twice_is_refused():
    tied = nn.Linear(192, 192)
    with pytest.raises(ValueError, match="'2' runs more than once"):
        last_linear(nn.Sequential(nn.Flatten(), tied, tied))
    model = Of(lambda self, x: self.tied(self.tied(x.flatten(1))), tied=tied)
    for settings in ({}, {"image_shape": (3, 8, 8)}):
        with pytest.raises(ValueError, match="'tied' runs more than once"):
            last_linear(model, **settings)


def test_control_flow_hides_the_last_layer_from_a_trace_but_not_from_a_run():
    model = dense(lambda self, x: self.head(self.body(x.flatten(1)) if float(x.mean()) > 0 else self.body(-x)))
    with pytest.raises(ValueError, match=r"cannot be traced.*name the layer yourself"):
        last_linear(model)
    assert last_linear(model, image_shape=(3, 8, 8)) == "head"
    inside = nn.Sequential(model, nn.Identity())
    with pytest.raises(ValueError, match="name the layer yourself"):
        last_linear(inside)


def test_a_default_device_plays_no_role():
    with torch.device("meta"):
        assert len(chain(MODEL, image_shape=SHAPE)) == 12
        assert last_linear(MODEL, image_shape=SHAPE) == "fc3"


MODEL = Quickstart()


@pytest.mark.parametrize(("attack", "activation"), [(rgap, "leaky_relu"), (spear, "relu")])
@pytest.mark.parametrize("kind", ["forward", "before", "backward"])
def test_a_hook_that_changes_a_layer_is_refused_and_one_that_looks_is_not(attack, activation, kind):
    model = models.mlp(channels=1, size=8, hidden=(80,), activation=activation).double()
    batch = data.load("digits").batch([0])
    model[1].register_forward_hook(lambda layer, inputs, output: None)
    found = attack(model, Client(model, share_labels=True).update(batch))
    assert metrics.psnr(found.images.clamp(0, 1), batch.images.double()) > 100
    if kind == "before":
        model[1].register_forward_pre_hook(lambda layer, inputs: (2 * inputs[0],))
    elif kind == "backward":
        model[2].register_full_backward_hook(lambda layer, inputs, outputs: (2 * inputs[0],))
    else:
        model[1].register_forward_hook(lambda layer, inputs, output: 2 * output)
    changed = Client(model, share_labels=True).update(batch)
    with pytest.raises(ValueError, match="a hook changes what the model computes"):
        attack(model, changed)
