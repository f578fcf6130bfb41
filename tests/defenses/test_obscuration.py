"""MixUp, InstaHide and transformation search: what they hide from a plain attack, and what undoes them."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gilib import data, metrics, models
from gilib.data import Batch
from gilib.defenses import obscuration
from gilib.defenses.obscuration import Mixing, Transformation, instahide, mixup, transformations
from gilib.federated import Client, as_function, fit, seeded_generator
from gilib.recursion import phong
from tests.victims import nothing_changes, random_batch

PHOTOS = data.load("photos", size=16)
PEOPLE = PHOTOS.batch(range(10))  # one image of each class
STRANGERS = PHOTOS.images[40:]
TRUE = PEOPLE.images.double()


def one(index: int) -> Batch:
    return PHOTOS.batch(index % 10)


def encoded(defense: Mixing, rounds: int, images: Batch = PEOPLE) -> Batch:
    """What the client trains on in each of ``rounds`` rounds, one of the ``images`` a round."""
    rows = [torch.tensor([turn % len(images)]) for turn in range(rounds)]
    turns = [Batch(images.images[row], images.labels[row]) for row in rows]
    found = [defense.obscure(batch, generator=seeded_generator(3, turn)) for turn, batch in enumerate(turns)]
    return Batch(torch.cat([batch.images for batch in found]), torch.cat([batch.labels for batch in found]))


def either_sign(images: torch.Tensor) -> torch.Tensor:
    """PSNR of each image, or of its negative if that is better for all of them together."""
    plain, negative = metrics.psnr(images, TRUE), metrics.psnr(1 - images, TRUE)
    return plain if plain.median() > negative.median() else negative


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 6), st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_labels_sum_to_one_and_images_stay_in_range(k, count, flip, cross, seed):
    pool = random_batch(8, size=5, seed=seed)
    strangers = random_batch(4, size=5, seed=seed + 1).images if cross else None
    defense = Mixing(k, 5, max(0.65, 1.1 / k), flip, pool, strangers)
    mixed = defense.obscure(Batch(pool.images[:count], pool.labels[:count]), generator=seeded_generator(seed))
    assert mixed.labels.shape == (count, 5)
    torch.testing.assert_close(mixed.labels.sum(dim=1), torch.ones(count, dtype=torch.float64))
    assert mixed.images.min() >= 0
    assert mixed.images.max() <= 1


@pytest.mark.parametrize("k", [2, 4, 6])
def test_no_weight_exceeds_its_bound_and_k_images_are_mixed(k):
    labels = encoded(mixup(k, classes=10, largest=0.6, pool=PEOPLE), 100).labels
    assert labels.max() <= 0.6
    assert ((labels > 0).sum(dim=1) == k).all()


def test_an_image_is_the_weighted_mean_that_its_label_says():
    mixed = encoded(mixup(4, classes=10, pool=PEOPLE), 5)
    torch.testing.assert_close(mixed.images, torch.einsum("tn,nchw->tchw", mixed.labels, TRUE))


def test_instahide_only_flips_the_sign_of_what_mixup_makes():
    plain = mixup(4, classes=10, pool=PEOPLE).obscure(one(0), generator=seeded_generator(1)).images
    hidden = instahide(4, classes=10, pool=PEOPLE).obscure(one(0), generator=seeded_generator(1)).images
    torch.testing.assert_close((2 * hidden - 1).abs(), (2 * plain - 1).abs())
    assert 0.4 < (hidden - plain).abs().gt(1e-12).double().mean() < 0.6


def test_nothing_secret_is_public_and_rounds_draw_afresh(capfd):
    model = models.mlp(10, size=16, hidden=(16,)).double()
    defense = instahide(4, classes=10, pool=PEOPLE)
    with nothing_changes(model, capfd):
        update = Client(model, defenses=(defense,)).update(one(0))
    assert update.public == {"instahide": {"k": 4, "largest": 0.65, "strangers": None}}
    images = [defense.obscure(one(0), generator=seeded_generator(0, turn)).images for turn in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize("trained", [False, True])
def test_many_gradients_undo_what_one_hides(trained):
    """From updates alone: the encodings by division, the weights from the last bias, then the private images."""
    defense = mixup(4, classes=10, pool=PEOPLE)
    client = Client(models.mlp(10, size=16, hidden=(32,), activation="tanh").double(), defenses=(defense,), seed=0)
    others = PHOTOS.batch(range(40, 240))
    learner = dataclasses.replace(client, defenses=(mixup(4, classes=10),))
    model = fit(learner, others, rounds=100) if trained else client.model
    client, images, labels = dataclasses.replace(client, model=model), [], []
    for turn in range(20):
        update = client.update(one(turn), round=turn)
        found = phong(model, update).images.clamp(0, 1)
        images.append(found)
        labels.append(model(found).softmax(dim=1).detach() - update.gradients["linear.bias"])
    mixed = torch.cat(images)
    assert metrics.psnr(mixed[:10], TRUE).median() < 20
    assert metrics.psnr(obscuration.unmix(mixed, torch.cat(labels)), TRUE).min() > 100


@pytest.mark.parametrize("k", [4, 6])
def test_intra_instahide_is_decoded_exactly(k):
    hidden = encoded(instahide(k, classes=10, pool=PEOPLE), 80)
    assert metrics.psnr(hidden.images[:10], TRUE).median() < 12
    found = either_sign(obscuration.decode(hidden.images, hidden.labels))
    assert found.median() > 60
    assert found.min() > 30


def test_intra_instahide_of_digits_is_decoded_by_what_digits_look_like():
    digits = data.load("digits")
    private, others = digits.batch([0, 1, 2, 3, 4, 5, 6, 7]), digits.images[100:1500]
    hidden = encoded(instahide(4, classes=10, pool=private), 80, private)
    truth, weights = private.images.double(), hidden.labels[:, private.labels]
    found = obscuration.decode(hidden.images, weights, like=others)
    assert metrics.psnr(found, truth).min() > 100  # exact, and no negative either
    assert metrics.psnr(obscuration.decode(hidden.images, weights), truth).median() < 20


def test_cross_instahide_takes_more_rounds():
    hidden = encoded(instahide(4, classes=10, pool=PEOPLE, public=STRANGERS), 600)
    found = obscuration.decode_cross(hidden.images, hidden.labels, k=4, largest=0.65)
    assert either_sign(found).median() > 19
    naive = either_sign(obscuration.decode(hidden.images[:200], hidden.labels[:200], restarts=8))
    assert naive.median() < either_sign(found).median() - 4


KINDS = [
    Transformation("shift right", 0.125),
    Transformation("shift down", -0.125),
    Transformation("shear", 0.3),
    Transformation("rotate", 20),
    Transformation("contrast", 0.5),
    Transformation("posterize", 3),
    Transformation("cutout", 0.25),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_transformation_changes_images_and_keeps_their_range(kind):
    changed = transformations(kind).obscure(PEOPLE, generator=seeded_generator(0))
    assert changed.images.shape == PEOPLE.images.shape
    assert torch.equal(changed.labels, PEOPLE.labels)
    assert changed.images.min() >= 0
    assert changed.images.max() <= 1
    assert not torch.equal(changed.images, PEOPLE.images)


def test_a_round_without_samples_stays_empty():
    nobody = Batch(PEOPLE.images[:0], PEOPLE.labels[:0])
    for defense in (transformations(*KINDS), mixup(2, classes=10), instahide(4, classes=10, public=STRANGERS)):
        assert len(defense.obscure(nobody, generator=seeded_generator(0))) == 0


def test_shifts_move_by_whole_pixels():
    moved = Transformation("shift right", 0.125)(TRUE)
    torch.testing.assert_close(moved[..., 2:], TRUE[..., :-2])
    assert not moved[..., :2].any()
    torch.testing.assert_close(Transformation("shift down", -0.125)(TRUE)[..., :-2, :], TRUE[..., 2:, :])


@pytest.mark.parametrize(
    ("kinds", "least"),
    [(("contrast",), 60), (("shear",), 20), (("rotate", "cutout"), 16)],
    ids=lambda kinds: str(kinds),
)
def test_a_known_policy_is_undone(kinds, least):
    policy = [kind for name in kinds for kind in KINDS if kind.kind == name]
    changed = obscuration.apply(policy, TRUE)
    found = metrics.psnr(obscuration.undo(policy, changed, ridge=1e-4), TRUE).median()
    assert found > least
    assert found > metrics.psnr(changed, TRUE).median() + 4


def test_scores_follow_their_formulas():
    model = models.lenet(10, size=16, activation="tanh", seed=1).double()
    small = PHOTOS.batch([0, 1, 2])
    forward, parameters = as_function(model)
    slopes = torch.autograd.functional.jacobian(lambda x: forward(parameters, x).sum(dim=1), small.images.double())
    rows = torch.stack([slopes[i, i].flatten() for i in range(3)])
    values = torch.linalg.eigvalsh(torch.corrcoef(rows))
    expected = -sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in values.tolist())
    assert obscuration.usability_score(model, (), small.images) == pytest.approx(expected)
    assert -1 < obscuration.privacy_score(model, (), small, points=3) < 1
    ends = obscuration.privacy_score(model, (Transformation("cutout", 1.0),), small, points=3)
    assert ends != obscuration.privacy_score(model, (), small, points=3)


def test_a_score_follows_the_precision_of_the_model():
    model, policy = models.lenet(10, size=16, activation="tanh", seed=1), (Transformation("rotate", 20.0),)
    single = obscuration.usability_score(model, policy, TRUE[:3])
    assert single == pytest.approx(obscuration.usability_score(model.double(), policy, TRUE[:3]), rel=1e-3)


def test_the_search_keeps_the_usable_half_with_the_most_private_first():
    model = models.lenet(10, size=16, activation="tanh", seed=1).double()
    small = PHOTOS.batch([0, 1, 2])
    found = [
        obscuration.search_policy(model, model, small, candidates=KINDS, count=6, longest=2, seed=4) for _ in range(2)
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 3
    assert [one.privacy for one in found[0]] == sorted(one.privacy for one in found[0])


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="largest above 1/k"):
        mixup(2, classes=10, largest=0.5)
    with pytest.raises(ValueError, match="widen pool"):
        mixup(4, classes=10).obscure(PHOTOS.batch([0, 1]), generator=seeded_generator(0))
    with pytest.raises(ValueError, match="needs 2 public images; got 1"):
        instahide(4, classes=10, public=STRANGERS[:1])
    for like in (TRUE[:1], TRUE[..., :8], TRUE[:, :1]):
        with pytest.raises(ValueError, match="images like the private ones"):
            obscuration.decode(TRUE, torch.ones(10, 2), like=like)
    with pytest.raises(ValueError, match="one row of weights"):
        obscuration.unmix(TRUE, torch.ones(3, 2))
    with pytest.raises(ValueError, match="expected one of"):
        Transformation("blur", 1.0)
    with pytest.raises(ValueError, match="as many candidates"):
        obscuration.search_policy(models.mlp(10, size=16), models.mlp(10, size=16), PEOPLE, candidates=KINDS[:1])


@pytest.mark.parametrize("cross", [False, True], ids=["intra", "cross"])
def test_one_logit_gets_the_mixed_probability_of_label_1(cross):
    private = random_batch(6, classes=2)
    strangers = random_batch(3, seed=1).images if cross else None
    one, two = (
        Mixing(4, classes, strangers=strangers).obscure(private, generator=seeded_generator(2)) for classes in (1, 2)
    )
    assert one.labels.shape == (6, 1)
    assert torch.equal(one.images, two.images)
    torch.testing.assert_close(one.labels[:, 0], two.labels[:, 1])
    assert ((one.labels > 0.01) & (one.labels < 0.99)).any()


def test_targets_of_a_regression_are_weighted_means_too():
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    where = torch.eye(5, dtype=torch.float64)
    weights = mixup(3, classes=5).obscure(Batch(images, where), generator=seeded_generator(4)).labels
    targets = torch.tensor([[2.0, -1.0], [0.0, 3.0], [-5.0, 0.5], [1.0, 1.0], [4.0, 4.0]], dtype=torch.float64)
    mixed = mixup(3, classes=2).obscure(Batch(images, targets), generator=seeded_generator(4))
    torch.testing.assert_close(mixed.labels, weights @ targets)


def test_another_default_device_changes_nothing():
    private = Batch(PEOPLE.images[:6, :, :8, :8], PEOPLE.labels[:6])
    like, model = PHOTOS.images[100:400, :, :8, :8], models.lenet(10, size=8, activation="tanh").double()

    def everything() -> list[object]:
        found: list[object] = []
        for public in (None, STRANGERS[:, :, :8, :8]):
            defense = instahide(3, classes=10, pool=private, public=public)
            mixed = [defense.obscure(private, generator=seeded_generator(5, turn)) for turn in range(8)]
            images = torch.cat([one.images for one in mixed])
            weights = torch.cat([one.labels for one in mixed])[:, private.labels]
            found += [images, weights, obscuration.unmix(images, weights)]
            found.append(obscuration.decode_cross(images, weights, k=3, largest=0.65))
        found.append(obscuration.decode(images, weights, restarts=4, iterations=5))
        found.append(obscuration.decode(images, weights, like=like[:, :, ::2, ::2][:, :, :4, :4].repeat(1, 1, 2, 2)))
        distorted = obscuration.apply(KINDS, private.images)
        found += [distorted, obscuration.undo(KINDS, distorted)]
        small = Batch(private.images[:2], private.labels[:2])
        found.append(obscuration.search_policy(model, model, small, candidates=KINDS, count=2, longest=2, seed=1))
        return found

    expected = everything()
    with torch.device("meta"):
        found = everything()
    for one, other in zip(expected, found, strict=True):
        same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        assert same
