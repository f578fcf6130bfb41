"""What is refused about a model, and what is taken: draws, outputs, wrappers, copies, precision, devices."""

import random
import threading

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from victims import nothing_changes, random_batch, small_attack

from gilib import models
from gilib.data import Batch
from gilib.federated import Client, as_function, checked_logits, find_head, fit, in_single, train
from gilib.iteration import dlg
from gilib.iteration.labels import counts

BATCH = random_batch(2, size=16)


class Drawing(nn.Module):
    """A network that draws somewhere in its forward pass."""

    def __init__(self, draw, part: nn.Module | None = None) -> None:
        super().__init__()
        self.draw, self.part, self.head = draw, part or nn.Identity(), nn.Linear(768, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.draw(self.part(images.flatten(1))))


DRAWS = {
    "dropout as a function": (lambda x: nn.functional.dropout(x, 0.5), None, "the forward pass of Drawing"),
    "noise": (lambda x: x + torch.randn_like(x), None, "the forward pass of Drawing"),
    "python": (lambda x: x * random.random(), None, "the forward pass of Drawing"),
    "numpy": (lambda x: x * float(np.random.rand()), None, "the forward pass of Drawing"),  # noqa: NPY002
    "dropout": (lambda x: x, nn.Dropout(0.5), r"layer 'part' \(Dropout\)"),
    "rrelu": (lambda x: x, nn.Sequential(nn.LayerNorm(768), nn.RReLU()), r"layer 'part.1' \(RReLU\)"),
    "stochastic depth": (lambda x: x, torchvision.ops.StochasticDepth(0.5, "row"), r"layer 'part' \(StochasticDepth\)"),
}


@pytest.mark.parametrize("draw, part, where", DRAWS.values(), ids=DRAWS)
def test_a_model_that_draws_is_noticed_by_its_draw(draw, part, where, capfd):
    model = Drawing(draw, part).double()
    state = random.getstate()
    with nothing_changes(model, capfd), pytest.raises(ValueError, match=rf"draws at random in {where}.*model\.dropout"):
        Client(model, mode="train").update(BATCH)
    assert random.getstate() == state


class Watched(nn.Module):
    """A layer beside which another thread draws, as a scheduler's does, in one call of three."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls % 3 == 1:
            thread = threading.Thread(target=random.random)
            thread.start()
            thread.join()
        return images


class DrawnOnce(nn.Module):
    """A layer that draws in its first call and remembers: every copy of the model has another one."""

    mask = None

    def forward(self, images):
        self.mask = torch.rand_like(images) if self.mask is None else self.mask
        return images * self.mask


def test_a_model_that_draws_only_once_is_noticed_too():
    model = nn.Sequential(nn.Flatten(), DrawnOnce(), nn.Linear(768, 5)).double()
    with pytest.raises(ValueError, match="draws at random"):
        Client(model).update(BATCH)


def test_what_another_thread_draws_is_not_the_models():
    model = nn.Sequential(Watched(), nn.Flatten(), nn.Linear(768, 5)).double()
    assert Client(model).update(BATCH).gradients


def test_layers_that_could_draw_and_do_not_are_fine():
    for part in (nn.Dropout(0.5), nn.RReLU(), torchvision.ops.StochasticDepth(0.5, "row")):
        Client(Drawing(lambda x: x, part).double()).update(BATCH)
    Client(Drawing(lambda x: x, nn.Dropout(0.0)).double(), mode="train").update(BATCH)


class Returning(nn.Module):
    """A network that returns its logits in some form."""

    def __init__(self, form) -> None:
        super().__init__()
        self.form, self.head = form, nn.Linear(768, 5)
        models.draw_weights(nn.Sequential(self.head), seed=0)
        self.double()

    def forward(self, images: Tensor) -> object:
        return self.form(self.head(images.flatten(1)))


class Answer:
    """An object with logits, as language libraries return it."""

    def __init__(self, logits: Tensor) -> None:
        self.loss, self.logits = None, logits


def test_logits_in_a_dictionary_or_an_object_are_taken():
    plain = Client(Returning(lambda z: z)).update(BATCH).gradients["head.bias"]
    for form in (lambda z: {"logits": z}, Answer):
        torch.testing.assert_close(Client(Returning(form)).update(BATCH).gradients["head.bias"], plain)


@pytest.mark.parametrize(
    "form, got",
    [
        (lambda z: (z, z), "a tuple"),
        (lambda z: {"scores": z}, "a dict"),
        (lambda z: None, "a NoneType"),
        (lambda z: {"logits": z, "aux_logits": z}, r"auxiliary logits too \(aux_logits\)"),
    ],
)
def test_other_outputs_are_refused(form, got):
    with pytest.raises(ValueError, match=rf"must return a tensor of logits.*it returns {got}"):
        Client(Returning(form)).update(BATCH)


def test_wrappers_name_what_to_pass():
    model = models.lenet(5, size=16).double()
    with pytest.raises(ValueError, match=r"wrapped in DataParallel: pass model\.module"):
        Client(nn.DataParallel(model)).update(BATCH)
    for compiled in (torch.jit.script(model), torch.jit.trace(model, BATCH.images)):
        with pytest.raises(ValueError, match=r"compiled by torch\.jit: pass the Python module"):
            Client(compiled).update(BATCH)


def test_models_without_numbers_are_refused():
    with pytest.raises(ValueError, match="is on the meta device and has no numbers"):
        Client(nn.Sequential(nn.Flatten(), nn.Linear(768, 5, device="meta"))).update(BATCH)
    with pytest.raises(ValueError, match="has no shape yet: run one forward pass"):
        Client(nn.Sequential(nn.Flatten(), nn.LazyLinear(5))).update(BATCH)
    locked = models.lenet(5, size=16)
    locked.lock = iter(())
    locked.lock = (part for part in ())
    with pytest.raises(ValueError, match="cannot be copied"):
        Client(locked).update(BATCH)


class Checkpointed(nn.Module):
    """Saves memory in the middle of its forward pass, or not."""

    def __init__(self, *, reentrant: bool | None) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(768, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        self.reentrant = reentrant
        models.draw_weights(nn.Sequential(self.stem, self.body, self.head), seed=0)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images.flatten(1)).tanh()
        if self.reentrant is None:
            return self.head(self.body(features).tanh())
        return self.head(checkpoint(self.body, features, use_reentrant=self.reentrant).tanh())


def test_checkpointing_works_or_is_named():
    plain, saving = Checkpointed(reentrant=None), Checkpointed(reentrant=False)
    updates = [Client(model, share_labels=True).update(BATCH) for model in (plain, saving)]
    for name, value in updates[0].gradients.items():
        torch.testing.assert_close(updates[1].gradients[name], value)
    losses = [small_attack(iterations=3).reconstruct(plain, update).losses for update in updates]
    torch.testing.assert_close(losses[1], losses[0])
    with pytest.raises(ValueError, match="Switch checkpointing off"):
        Client(Checkpointed(reentrant=True)).update(BATCH)


def test_an_error_names_its_cause():
    model = models.lenet(5, size=16).double()
    with pytest.raises(ValueError, match=r"does not take images of shape \(2, 1, 16, 16\): the sizes do not fit"):
        Client(model).update(random_batch(2, channels=1, size=16))
    mixed = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Linear(8, 5).double())
    with pytest.raises(ValueError, match=r"does not run on images .*different dtypes: use model\.float\(\)"):
        Client(mixed).update(BATCH)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_attacked_in_single(dtype):
    model = models.lenet(5, size=16).to(dtype)
    update = Client(model, share_labels=True).update(random_batch(1, size=16))
    assert all(value.dtype == dtype for value in update.gradients.values())
    assert all(value.dtype == torch.float32 for value in in_single(model).parameters())
    found = small_attack(iterations=30).reconstruct(model, update)
    assert found.images.dtype == torch.float32
    assert found.losses.min() < 0.5 * found.losses[0]
    assert model.linear.weight.dtype == dtype


def test_another_default_device_changes_nothing():
    """The meta device stands in for a card: a tensor that is made there by accident has no numbers."""
    model, one = models.lenet(5, size=8).double(), random_batch(1)
    digits = Batch(random_batch(8).images, random_batch(8).labels)
    with torch.device("meta"):
        update = Client(model, share_labels=True, seed=0).update(one)
        found = [
            update.gradients["linear.bias"],
            dlg(iterations=2).reconstruct(model, update).images,
            small_attack(iterations=2, restarts=2).reconstruct_many(model, [update, update], snapshots=2)[1].images,
            counts().restore(update, model),
            train(model, digits, stages=[1], batch_size=4)[1].linear.bias,
            fit(Client(model, seed=0), digits, rounds=1, batch_size=4).linear.bias,
            checked_logits(*as_function(model), one.images),
        ]
        assert find_head(model, (3, 8, 8)).bias == "linear.bias"
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in found)


def test_functions_without_a_second_derivative_are_written_out_in_every_branch():
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Hardsigmoid(), nn.Linear(4, 2))
    functional = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), Squashed(), nn.Linear(4, 2))
    for model in (module, functional):
        forward, parameters = as_function(model)
        forward(parameters, torch.zeros(1, 1, 2, 3))
        for _ in range(2):
            image = torch.full((1, 1, 2, 3), 0.3, requires_grad=True)
            tracked = {name: value.clone().requires_grad_() for name, value in parameters.items()}
            loss = forward(tracked, image).square().sum()
            first = torch.autograd.grad(loss, list(tracked.values()), create_graph=True)
            [second] = torch.autograd.grad(sum(value.square().sum() for value in first), image)
            assert second.abs().sum() > 0


class Squashed(nn.Module):
    """A function without a second derivative, called from the second time on: the first call says nothing about it."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return nn.functional.hardsigmoid(x) if self.calls > 1 else x
