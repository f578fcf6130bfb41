"""Recursion inside iteration: exact features as a constraint, solved coordinates, a batch split at a hidden layer."""

import dataclasses
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev
from victims import nothing_changes, psnr, random_batch, single_images, updates

from gilib import data, models
from gilib.federated import Client, Gradients, find_head, train
from gilib.iteration import IterationAttack, Reconstruction, initialization, labels, matching, optimizers, priors
from gilib.iteration.layers import last_layer_input
from gilib.iteration.lbfgs import lbfgs
from gilib.iteration.objective import Problem
from gilib.iteration.stack import evaluator
from gilib.recursion import layer_inputs, spear

PHOTOS = data.load("photos", size=16)
VICTIMS = 6


class FeaturesOnly:
    """A matching that ignores the gradients, so that only the features count."""

    def __call__(self, candidate: Gradients, shared: Gradients) -> Tensor:
        return next(iter(shared.values())).new_zeros(())


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """Search u, where the image is ``matrix @ u``."""

    matrix: Tensor

    def start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.linalg.solve(self.matrix, images.flatten())

    def resume(self, vector: Tensor) -> Tensor:
        return vector

    def images(self, vector: Tensor, shape: tuple[int, ...]) -> Tensor:
        return (self.matrix @ vector).reshape(shape)


def attack(**changes) -> IterationAttack:
    settings = {
        "initialization": initialization.normal(0.5, 0.1),
        "labels": labels.idlg(),
        "matching": matching.cosine(),
        "optimizer": optimizers.adam(0.1),
        "iterations": 60,
    }
    return IterationAttack(**(settings | changes))


def feature_coordinates(model: nn.Module, *, damping: float = 0.01) -> Coordinates:
    """``(J^T J + damping)^(-1/2)`` for the derivative J of the features at a grey image."""
    features = last_layer_input(model, mode="eval")
    grey = torch.full((3, 16, 16), 0.5, dtype=torch.float64)
    rows = jacrev(lambda image: features(image[None])[0])(grey).flatten(1)
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    scale = values.clamp(min=0) / values[-1] + damping
    return Coordinates(vectors @ torch.diag((scale / scale[-1]) ** -0.5) @ vectors.T)


def medians(model: nn.Module, *attacks: IterationAttack) -> list[Tensor]:
    batches = single_images(PHOTOS, VICTIMS)
    shared = updates(model, batches)
    found: list[list[Reconstruction]] = [one.reconstruct_many(model, shared) for one in attacks]
    return [psnr(each, batches).median() for each in found]


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
@pytest.mark.parametrize(
    "distance", [matching.squared_l2(), matching.cosine(), FeaturesOnly()], ids=["l2", "cosine", "none"]
)
def test_the_true_image_is_a_zero_of_the_joint_objective(activation, distance):
    model = models.lenet(5, size=8, activation=activation, bound=0.2).double()
    batches = [random_batch(1, seed=seed) for seed in range(4)]
    problem = Problem.of(model, updates(model, batches, share_labels=True), labels=labels.known(), restarts=1)
    losses, slopes = evaluator(problem, matching=distance, priors=(priors.feature_fit(2.0),))(
        torch.stack([batch.images.flatten() for batch in batches])
    )
    torch.testing.assert_close(losses, torch.zeros_like(losses), atol=1e-12, rtol=0)
    torch.testing.assert_close(slopes, torch.zeros_like(slopes), atol=1e-5, rtol=0)


def test_the_prior_and_the_recursion_read_the_same_features():
    model = models.lenet(5, size=8).double()
    batch = random_batch(1)
    update = Client(model).update(batch)
    [solved] = layer_inputs(update).values()
    torch.testing.assert_close(find_head(model, update.image_shape).features(update.gradients), solved)
    torch.testing.assert_close(last_layer_input(model, mode="eval")(batch.images)[0], solved)


def test_features_alone_beat_gradient_matching_on_a_trained_network():
    untrained = models.convnet(size=16, widths=(16, 32)).double()
    model = train(untrained, PHOTOS.batch(range(240)), stages=(80,), learning_rate=0.01)[80]
    fit = (priors.feature_fit(1.0),)
    plain, joint, alone = medians(model, attack(), attack(priors=fit), attack(matching=FeaturesOnly(), priors=fit))
    assert joint > plain + 1
    assert alone > plain + 1


def test_coordinates_solved_from_the_features_speed_up_a_smooth_network():
    model = models.lenet(size=16, width=8).double()
    settings = {"optimizer": lbfgs(), "bounds": None, "iterations": 50}
    plain, solved = medians(model, attack(**settings), attack(**settings, representation=feature_coordinates(model)))
    assert solved > plain + 2


def test_batches_are_split_exactly_at_a_hidden_layer():
    layers = OrderedDict(models.convnet(size=16, widths=(8, 16)).named_children())
    del layers["linear"]
    layers |= {"linear1": models.blank_linear(1024, 200), "relu": nn.ReLU(), "linear2": models.blank_linear(200, 10)}
    model = models.draw_weights(nn.Sequential(layers), seed=0).double()
    rest = nn.Sequential(OrderedDict((name, layers[name]) for name in ("flatten", "linear1", "relu", "linear2")))
    for first in range(0, 12, 4):
        batch = PHOTOS.batch(range(first, first + 4))
        update = Client(model).update(batch)
        inner = {name: value for name, value in update.gradients.items() if name.startswith("linear")}
        split = spear(rest, dataclasses.replace(update, gradients=inner, image_shape=(1024, 1, 1)))
        with torch.no_grad():
            entered = model[:-3](batch.images.double())
        nearest = torch.cdist(entered, split.images.flatten(1)).min(dim=1).values
        assert split.exact
        assert (nearest < 1e-8 * entered.norm(dim=1)).all()


def test_the_joint_attack_changes_nothing(capfd):
    model = models.lenet(5, size=8).double()
    update = Client(model).update(random_batch(1))
    with nothing_changes(model, capfd):
        attack(priors=(priors.feature_fit(1.0),), iterations=3).reconstruct(model, update)


def test_a_batch_has_no_features_of_its_own():
    model = models.lenet(5, size=8).double()
    update = Client(model, share_labels=True).update(random_batch(2))
    joint = attack(labels=labels.known(), priors=(priors.feature_fit(1.0),), iterations=2)
    with pytest.raises(ValueError, match="one sample in an update"):
        joint.reconstruct(model, update)
