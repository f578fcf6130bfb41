"""The one loop: reproducible, one code path for one victim and for many, harmless, and honest about failures."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import nothing_changes, random_batch, shared_updates, small_attack, small_convnet, small_lenet

from gilib import models
from gilib.federated import Client, LocalTraining, Update
from gilib.iteration import initialization, matching, optimizers
from gilib.iteration.attack import IterationAttack
from gilib.iteration.labels import idlg, joint
from gilib.iteration.lbfgs import lbfgs
from gilib.iteration.priors import total_variation
from gilib.iteration.reconstruction import NoFiniteStartError, Reconstruction, spaced

MODEL = small_lenet()
UPDATES = shared_updates(MODEL, 3)
OPTIMIZERS = {
    "adam": optimizers.adam(0.05),
    "signed": optimizers.signed_adam(0.1),
    "sgd": optimizers.sgd(0.01),
    "lbfgs": lbfgs(),
}


def assert_same(one: Reconstruction, other: Reconstruction, *, tolerance: float = 1e-7) -> None:
    for name in ("images", "losses", "snapshots"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance)
    for name in ("labels", "snapshot_iterations"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert (one.restart, one.diverged, one.interrupted) == (other.restart, other.diverged, other.interrupted)


class Exploding(nn.Module):
    """Logits grow like exp(x^4): harmless inside [0, 1], infinite a little outside."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 8 * 8, 5, dtype=torch.float64)
        weight = torch.linspace(-0.1, 0.1, self.linear.weight.numel(), dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(weight.reshape(5, -1))
            self.linear.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1).pow(4).exp())


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("labels", [joint(), idlg()], ids=["joint", "idlg"])
def test_many_victims_at_once_give_what_each_gives_alone(name, labels):
    attack = small_attack(optimizer=OPTIMIZERS[name], labels=labels, restarts=2)
    together = attack.reconstruct_many(MODEL, UPDATES, seed=4, snapshots=3)
    assert_same(together[0], attack.reconstruct(MODEL, UPDATES[0], seed=4, snapshots=3))
    # Victim 0's neighbours do not matter, and a victim in the same place starts from the same noise.
    assert_same(together[0], attack.reconstruct_many(MODEL, [UPDATES[0], UPDATES[2]], seed=4, snapshots=3)[0])
    assert_same(together[1], attack.reconstruct_many(MODEL, [UPDATES[2], UPDATES[1]], seed=4, snapshots=3)[1])


def test_a_victim_has_the_same_starts_whatever_the_number_of_restarts():
    few, many = (small_attack(restarts=count) for count in (2, 5))
    traces: dict[int, list] = {2: [], 5: []}
    for attack in (few, many):
        attack.reconstruct_many(
            MODEL, UPDATES, callback=lambda i, best, kept=traces[attack.restarts]: kept.append(best.clone())
        )
    for two, five in zip(traces[2], traces[5], strict=True):
        assert two.shape == (3, 2)
        assert five.shape == (3, 5)
        torch.testing.assert_close(two, five[:, :2], rtol=1e-7, atol=1e-12)


def test_the_best_restart_wins():
    best: list[torch.Tensor] = []
    attack = small_attack(restarts=6)
    found = attack.reconstruct(MODEL, UPDATES[0], callback=lambda iteration, losses: best.append(losses.clone()))
    assert found.restart == int(best[-1][0].argmin())
    torch.testing.assert_close(found.losses.min(), best[-1].min())
    assert best[-1].unique().numel() == 6  # the restarts are different searches


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_seeds_decide_everything(seed):
    attack = small_attack(restarts=2, labels=joint())
    one = attack.reconstruct(MODEL, UPDATES[0], seed=seed)
    assert_same(one, attack.reconstruct(MODEL, UPDATES[0], seed=seed), tolerance=0)
    assert not torch.equal(one.images, attack.reconstruct(MODEL, UPDATES[0], seed=seed + 1).images)
    again = one.attack.reconstruct(MODEL, UPDATES[0], seed=one.seed)  # what a result remembers is enough
    assert_same(one, again, tolerance=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_an_attack_changes_nothing_and_prints_nothing(name, mode, capfd):
    model = small_convnet(norm="batch", activation="sigmoid").train()
    model[1].eval()
    update = Client(model, mode=mode, share_labels=True, local=LocalTraining(steps=2)).update(random_batch(2))
    kept = {key: value.clone() for key, value in update.gradients.items()}
    with nothing_changes(model, capfd):
        small_attack(optimizer=OPTIMIZERS[name], restarts=2).reconstruct_many(model, [update, update], snapshots=2)
    assert all(torch.equal(kept[key], update.gradients[key]) for key in kept)


def test_an_attack_reads_nothing_but_the_gradients_and_what_was_agreed():
    """An update that refuses to give anything else: every field an attack touches is listed here."""
    read: set[str] = set()

    class Watched(Update):
        def __getattribute__(self, name: str) -> object:
            if name in {field.name for field in dataclasses.fields(Update)}:
                read.add(name)
            return super().__getattribute__(name)

    honest = Client(MODEL, share_labels=True, share_buffers=True).update(random_batch(1))
    fields = {field.name: getattr(honest, field.name) for field in dataclasses.fields(Update)}
    for labels in (joint(), idlg()):
        small_attack(labels=labels).reconstruct(MODEL, Watched(**fields))
    assert read <= {"gradients", "batch_size", "image_shape", "local", "loss", "mode", "weight"}


def test_the_search_works_in_the_precision_of_the_model():
    single = small_lenet().float()
    [update] = shared_updates(single, 1)
    found = small_attack().reconstruct(single, update, snapshots=2)
    assert found.images.dtype == found.losses.dtype == found.snapshots.dtype == torch.float32
    assert small_attack().reconstruct(MODEL, UPDATES[0]).images.dtype == torch.float64


def test_the_shapes_of_a_result():
    update = Client(MODEL, share_labels=True).update(random_batch(3))
    found = small_attack(iterations=9).reconstruct(MODEL, update, snapshots=4)
    assert found.images.shape == (3, 3, 8, 8)
    assert found.labels.shape == (3,)
    assert found.losses.shape == (9,)
    assert found.snapshots.shape == (4, 3, 3, 8, 8)
    assert found.snapshot_iterations.shape == (4,)
    assert 0 <= found.images.min() <= found.images.max() <= 1


def test_the_result_is_the_candidate_with_the_lowest_objective():
    attack = small_attack(optimizer=optimizers.adam(0.3), iterations=40, bounds=(0.0, 1.0))
    found = attack.reconstruct(MODEL, UPDATES[0])
    alone = small_attack(initialization=Given(found.images), iterations=1).reconstruct(MODEL, UPDATES[0])
    torch.testing.assert_close(alone.losses[0], found.losses.min(), rtol=1e-7, atol=0)
    assert found.losses.argmin() < 39 or found.losses[-1] == found.losses.min()
    assert found.losses.min() < 0.5 * found.losses[0]


@dataclasses.dataclass(frozen=True)
class Given:
    """Starts from given images."""

    images: torch.Tensor

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        return self.images


def test_bounds_hold_for_every_candidate():
    seen: list[torch.Tensor] = []

    class Watch:
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.sum() * 0

    class Spy(optimizers.SGD):
        def begin(self, candidates: torch.Tensor, iterations: int) -> optimizers.Stepper:
            stepper = super().begin(candidates, iterations)
            step = stepper.step
            stepper.step = lambda c, losses, g: (seen.append(c.clone()), step(c, losses, g))[1]
            return stepper

    attack = small_attack(optimizer=Spy(5.0), initialization=initialization.normal(0.5, 2.0), labels=joint())
    attack = dataclasses.replace(attack, bounds=(0.2, 0.7))
    attack.reconstruct(MODEL, UPDATES[0])
    assert len(seen) == 12
    for candidates in seen:
        pixels, logits = candidates[:, :192], candidates[:, 192:]
        assert 0.2 <= pixels.min() <= pixels.max() <= 0.7
    assert logits.abs().max() > 0.7  # the box is for pixels alone
    seen.clear()
    dataclasses.replace(attack, bounds=None).reconstruct(MODEL, UPDATES[0])
    assert seen[0].max() > 1


@settings(max_examples=50, deadline=None)
@given(iterations=st.integers(1, 500), count=st.integers(0, 40))
def test_snapshots_are_spaced_from_the_first_iteration_to_the_last(iterations, count):
    at = spaced(iterations, count)
    assert at.shape == (count,)
    if count:
        assert at[-1] == iterations
        assert (at[1:] >= at[:-1]).all()
        assert at.min() >= 1
    if count > 1:
        assert at[0] == 1
        gaps = at[1:] - at[:-1]
        assert gaps[0] <= gaps[-1]


def test_snapshots_are_the_best_so_far():
    attack = small_attack(optimizer=optimizers.adam(0.3), iterations=30)
    full = attack.reconstruct(MODEL, UPDATES[0], snapshots=6)
    assert full.snapshot_iterations[[0, -1]].tolist() == [1, 30]
    assert torch.equal(full.snapshots[-1], full.images)
    for iteration, snapshot in zip(full.snapshot_iterations.tolist(), full.snapshots, strict=True):
        shorter = dataclasses.replace(attack, iterations=iteration).reconstruct(MODEL, UPDATES[0])
        torch.testing.assert_close(snapshot, shorter.images)
    assert attack.reconstruct(MODEL, UPDATES[0]).snapshots.shape == (0, 1, 3, 8, 8)


def test_the_callback_sees_every_iteration_and_the_best_so_far():
    seen: list[tuple[int, torch.Tensor]] = []
    attack = small_attack(restarts=2, optimizer=optimizers.adam(0.5))
    found = attack.reconstruct_many(MODEL, UPDATES, callback=lambda i, losses: seen.append((i, losses.clone())))
    assert [iteration for iteration, _ in seen] == list(range(12))
    assert all(losses.shape == (3, 2) for _, losses in seen)
    assert all((later <= earlier).all() for (_, earlier), (_, later) in pairwise(seen))
    for victim, result in enumerate(found):
        torch.testing.assert_close(seen[-1][1][victim].min(), result.losses.min())


@pytest.mark.parametrize("last", [0, 4])
def test_ctrl_c_returns_the_best_so_far(last):
    def interrupt(iteration: int, losses: torch.Tensor) -> None:
        if iteration == last:
            raise KeyboardInterrupt

    attack = small_attack(restarts=2)
    found = attack.reconstruct_many(MODEL, UPDATES, callback=interrupt, snapshots=5)
    shorter = dataclasses.replace(attack, iterations=last + 1).reconstruct_many(MODEL, UPDATES)
    for one, other in zip(found, shorter, strict=True):
        assert one.interrupted
        assert not other.interrupted
        assert one.losses.shape == (last + 1,)
        torch.testing.assert_close(one.images, other.images)
        assert (one.snapshot_iterations <= last + 1).all()
        assert len(one.snapshots) == len(one.snapshot_iterations)


def test_ctrl_c_before_anything_was_evaluated_is_passed_on(monkeypatch):
    def interrupt(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(IterationAttack, "_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small_attack().reconstruct(MODEL, UPDATES[0])


@pytest.mark.parametrize("rate", [1e12, 1e200])
def test_a_diverged_start_is_replaced_and_reported_and_never_returned(rate):
    model = Exploding()
    update = Client(model, share_labels=True).update(random_batch(1))
    attack = small_attack(optimizer=optimizers.sgd(rate), bounds=None, iterations=20)
    found = attack.reconstruct(model, update)
    assert found.diverged > 0
    assert not found.losses.isfinite().all()
    assert found.images.isfinite().all()
    again = small_attack(initialization=Given(found.images), iterations=1).reconstruct(model, update)
    assert again.losses[0].isfinite()
    calm = small_attack(optimizer=optimizers.sgd(1e-12), bounds=None).reconstruct(model, update)
    assert calm.diverged == 0
    assert calm.losses.isfinite().all()


def test_replacements_are_new_draws():
    """Each replacement draws afresh, so the objectives of the starts all differ."""
    model = Exploding()
    update = Client(model, share_labels=True).update(random_batch(1))
    found = small_attack(optimizer=optimizers.sgd(1e200), bounds=None, iterations=12).reconstruct(model, update)
    starts = found.losses[found.losses.isfinite()]
    assert len(starts) >= 4
    assert starts.unique().numel() == len(starts)


def test_a_victim_that_diverges_does_not_disturb_the_others():
    model = Exploding()
    calm, wild = shared_updates(model, 2)
    wild = dataclasses.replace(wild, gradients={key: 1e160 * value for key, value in wild.gradients.items()})
    attack = small_attack(optimizer=optimizers.sgd(1e-12), bounds=None)
    alone = attack.reconstruct(model, calm)
    with pytest.raises(NoFiniteStartError, match="no start of victim 1"):
        attack.reconstruct_many(model, [calm, wild])
    losses: list[torch.Tensor] = []
    with pytest.raises(RuntimeError):
        attack.reconstruct_many(model, [calm, wild], callback=lambda i, best: losses.append(best[0].clone()))
    torch.testing.assert_close(losses[-1][0], alone.losses.min())


def test_a_search_that_is_never_finite_is_an_error():
    model = Exploding()
    update = Client(model, share_labels=True).update(random_batch(1))
    attack = small_attack(initialization=initialization.constant(50.0), bounds=None)
    with pytest.raises(
        NoFiniteStartError, match=r"no start of victim 0 had a finite objective in 12 iterations \(12 starts"
    ):
        attack.reconstruct(model, update)


def test_every_ingredient_is_part_of_the_description():
    text = repr(small_attack(priors=(total_variation(0.1),), matching=matching.cosine()))
    for part in ("Uniform", "Known", "Cosine", "TotalVariation(weight=0.1)", "Adam", "iterations=12", "restarts=1"):
        assert part in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_attack().restarts = 2


def test_several_local_steps_and_batches_can_be_attacked():
    """The attack repeats the agreed local training: more iterations bring it down to the truth."""
    local = LocalTraining(steps=3, learning_rate=0.1, batch_size=1)
    update = Client(MODEL, local=local, share_labels=True).update(random_batch(2))
    found = small_attack(optimizer=lbfgs(), iterations=400, bounds=None).reconstruct(MODEL, update)
    assert found.losses.min() < 1e-6 * found.losses[0]
    assert (found.images - random_batch(2).images).abs().max() < 0.05


def test_compiled_gives_the_same_losses():
    model = models.mlp(5, size=8, hidden=(6,), activation="sigmoid").double()
    updates = shared_updates(model, 2)
    attack = small_attack(iterations=4, labels=joint(), priors=(total_variation(0.1),))
    plain, compiled = (attack.reconstruct_many(model, updates, compiled=flag) for flag in (False, True))
    for one, other in zip(plain, compiled, strict=True):
        assert_same(one, other, tolerance=1e-9)
