"""What a compressed gradient keeps is exact, what it hides is bounded, and attacks that know it explain the truth."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from victims import nothing_changes, psnr, random_batch, single_images, small_attack, small_convnet, updates

from gilib import data, models
from gilib.data import Batch
from gilib.defenses import gradient
from gilib.federated import Client, Defense, Update, as_function, as_targets, fit, local_update, train
from gilib.iteration import matching, optimizers
from gilib.models import blank_linear

RATIOS = st.floats(0, 0.999)
SHAPES = st.lists(st.sampled_from([(1,), (7,), (3, 5), (2, 3, 3)]), min_size=1, max_size=4)
SEEDS = st.integers(0, 999)


def update_of(shapes, seed: int, *, ties: bool = False) -> Update:
    """An update of random gradients; with ties they take few values, zero among them."""
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    gradients = {f"p{i}": (2 * value).round() if ties else value for i, value in enumerate(values)}
    return Update(gradients, 1, (1, 4, 4))


def protected(defense, update: Update, seed: int = 0) -> dict[str, torch.Tensor]:
    return defense.protect(update, generator=torch.Generator().manual_seed(seed)).gradients


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in gradients.values()])


def kept(total: int, ratio: float) -> int:
    return max(1, total - round(ratio * total))


@settings(deadline=None)
@given(shapes=SHAPES, ratio=RATIOS, seed=SEEDS, scope=st.sampled_from(["tensor", "global"]))
def test_pruning_keeps_exactly_the_stated_share_unchanged_and_the_largest(shapes, ratio, seed, scope):
    update = update_of(shapes, seed)
    sent = protected(gradient.pruning(ratio, scope=scope), update)
    pairs = [(value.flatten(), sent[name].flatten()) for name, value in update.gradients.items()]
    if scope == "global":
        pairs = [(flat(update.gradients), flat(sent))]
    for before, after in pairs:
        mask = after != 0
        assert int(mask.sum()) == kept(len(before), ratio)
        assert torch.equal(before[mask], after[mask])
        assert mask.all() or before[~mask].abs().max() <= after[mask].abs().min()
    assert {name: value.shape for name, value in sent.items()} == {n: v.shape for n, v in update.gradients.items()}


@settings(deadline=None, max_examples=40)
@given(ratio=RATIOS, seed=SEEDS)
def test_of_equal_entries_the_earlier_stay(ratio, seed):
    update = update_of([(40,)], seed, ties=True)
    value, sent = update.gradients["p0"], protected(gradient.pruning(ratio), update)["p0"]
    order = sorted(range(40), key=lambda i: (-abs(float(value[i])), i))[: kept(40, ratio)]
    expected = torch.zeros_like(value)
    expected[order] = value[order]
    assert torch.equal(sent, expected)
    assert torch.equal(torch.signbit(sent[sent == 0]), torch.signbit(expected[sent == 0]))


@settings(deadline=None, max_examples=40)
@given(shapes=SHAPES, share=st.floats(0.01, 1), seed=SEEDS, rounds=st.integers(1, 8))
def test_error_feedback_loses_nothing(shapes, share, seed, rounds):
    defense = gradient.top_k(share)
    sent, total = 0.0, 0.0
    for number in range(rounds):
        update = update_of(shapes, seed + number)
        owed = flat(defense.memory) if defense.memory else 0.0
        one = flat(protected(defense, update))
        assert torch.equal(one + flat(defense.memory), flat(update.gradients) + owed)  # to the last bit
        assert not (one * flat(defense.memory)).any()
        sent, total = sent + one, total + flat(update.gradients)
    torch.testing.assert_close(sent + flat(defense.memory), total)


@settings(deadline=None, max_examples=30)
@given(share=st.floats(0.05, 1), seed=SEEDS, rounds=st.integers(1, 12))
def test_for_the_same_gradient_what_was_sent_is_the_gradient_times_the_round_of_the_last_sending(share, seed, rounds):
    update, defense = update_of([(30,)], seed), gradient.top_k(share)
    total, last = torch.zeros(30, dtype=torch.float64), torch.zeros(30, dtype=torch.float64)
    for number in range(1, rounds + 1):
        sent = protected(defense, update)["p0"]
        total, last = total + sent, torch.where(sent != 0, float(number), last)
    torch.testing.assert_close(total, last * update.gradients["p0"])


@settings(deadline=None, max_examples=30)
@given(shapes=SHAPES, share=st.floats(0.01, 1), seed=SEEDS)
def test_without_feedback_top_k_is_pruning_and_remembers_nothing(shapes, share, seed):
    update, defense = update_of(shapes, seed), gradient.top_k(share, feedback=False)
    for _ in range(2):
        assert torch.equal(flat(protected(defense, update)), flat(protected(gradient.pruning(1 - share), update)))
    assert defense.memory == {}


@settings(deadline=None)
@given(shapes=SHAPES, bits=st.integers(1, 12), seed=SEEDS, stochastic=st.booleans())
def test_quantization_stays_within_its_step_on_few_levels(shapes, bits, seed, stochastic):
    update = update_of(shapes, seed)
    sent = protected(gradient.quantization(bits, stochastic=stochastic), update, seed)
    for name, value in update.gradients.items():
        peak = value.abs().max()
        step = 2 * peak / (2**bits - 1)
        assert (sent[name] - value).abs().max() <= step * (1 if stochastic else 0.5) * (1 + 1e-9)
        torch.testing.assert_close(sent[name].abs().max(), peak)
        codes = (sent[name] + peak) / step
        torch.testing.assert_close(codes, codes.round(), atol=1e-7, rtol=0)


@settings(deadline=None, max_examples=15)
@given(bits=st.integers(1, 6), seed=SEEDS)
def test_stochastic_rounding_is_right_on_average(bits, seed):
    update, defense = update_of([(20,)], seed), gradient.quantization(bits, stochastic=True)
    value = update.gradients["p0"]
    generator, draws = torch.Generator().manual_seed(seed), 1000
    sent = torch.stack([defense.protect(update, generator=generator).gradients["p0"] for _ in range(draws)])
    step = 2 * value.abs().max() / (2**bits - 1)
    assert (sent.mean(dim=0) - value).abs().max() < 5 * 0.5 * step / math.sqrt(draws)


@settings(deadline=None, max_examples=40)
@given(shapes=SHAPES, seed=SEEDS, scaled=st.booleans(), ties=st.booleans())
def test_signs_have_three_values_and_the_mean_magnitude(shapes, seed, scaled, ties):
    update = update_of(shapes, seed, ties=ties)
    for name, sent in protected(gradient.sign_compression(scaled=scaled), update).items():
        value = update.gradients[name]
        scale = value.abs().mean() if scaled else torch.ones((), dtype=torch.float64)
        assert torch.equal(sent, scale * value.sign())
        assert len(sent.unique()) <= 3


def test_a_zero_gradient_stays_zero():
    update = Update({"p0": torch.zeros(5, dtype=torch.float64)}, 1, (1, 4, 4))
    for defense in (gradient.quantization(2), gradient.sign_compression(), gradient.pruning(0.5), gradient.top_k(0.5)):
        assert torch.equal(protected(defense, update)["p0"], torch.zeros(5, dtype=torch.float64))


def slow_scores(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Soteria's ratio by one backward pass for every sample and feature, through the layers before ``linear``."""
    before = nn.Sequential(*list(model.children())[:-1])
    scores = 0.0
    for image in batch.images:
        pixels = image[None].clone().requires_grad_()
        features = before(pixels)[0]
        slopes = [torch.autograd.grad(one, pixels, retain_graph=True)[0].norm() for one in features]
        scores = scores + features.detach().abs() / torch.stack(slopes)
    return scores


@settings(deadline=None, max_examples=12)
@given(ratio=RATIOS, count=st.integers(1, 3), seed=st.integers(0, 50))
def test_soteria_prunes_the_stated_columns_and_nothing_else(ratio, count, seed):
    model = small_convnet(activation="tanh", seed=seed)
    batch = random_batch(count, seed=seed)
    full, update = Client(model).update(batch), Client(model, defenses=(gradient.soteria(ratio),)).update(batch)
    scores = slow_scores(model, batch)
    torch.testing.assert_close(gradient.feature_scores(model, batch, layer="linear"), scores)
    gone = scores.argsort(descending=True)[: round(ratio * len(scores))]
    expected = {name: value.clone() for name, value in full.gradients.items()}
    expected["linear.weight"][:, gone] = 0
    for name, value in update.gradients.items():
        assert torch.equal(value, expected[name])
    assert update.public == {"soteria": {"ratio": ratio, "layer": "linear"}}


def test_soteria_sees_the_batch_and_the_model_that_were_trained_with():
    seen = []

    class Witness(Defense):
        def obscure(self, batch, *, generator):
            return Batch(1 - batch.images, batch.labels)

        def withhold(self, update, *, model, batch):
            seen.append((model, batch))
            return update

    client, batch = Client(small_convnet(), defenses=(Witness(),)), random_batch(2)
    client.update(batch)
    assert seen[0][0] is client.improved()
    assert torch.equal(seen[0][1].images, 1 - batch.images)


BOXES = {
    "pruning": (lambda: gradient.pruning(0.9), matching.within_pruned),
    "global pruning": (lambda: gradient.pruning(0.9, scope="global"), matching.within_pruned),
    "top_k": (lambda: gradient.top_k(0.1), matching.within_pruned),
    "sent only": (lambda: gradient.pruning(0.9), matching.sent_only),
    "four bits": (lambda: gradient.quantization(4), lambda m: matching.within_quantized(m, 4)),
    "one bit": (lambda: gradient.quantization(1), lambda m: matching.within_quantized(m, 1)),
    "stochastic": (
        lambda: gradient.quantization(3, stochastic=True),
        lambda m: matching.within_quantized(m, 3, stochastic=True),
    ),
    "signs": (gradient.sign_compression, matching.within_signs),
    "bare signs": (lambda: gradient.sign_compression(scaled=False), matching.within_signs),
    "soteria masked": (lambda: gradient.soteria(0.6), matching.sent_only),
    "soteria without the layer": (
        lambda: gradient.soteria(0.6),
        lambda m: matching.weighted(m, {"linear.weight": 0.0}),
    ),
}


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("distance", [matching.squared_l2(), matching.cosine()], ids=["l2", "cosine"])
def test_adaptive_matchings_are_zero_at_the_truth_and_plain_ones_are_not(name, distance):
    make, within = BOXES[name]
    for seed in range(8):
        model, batch = small_convnet(activation="tanh", seed=seed), random_batch(2, seed=seed)
        update = Client(model, defenses=(make(),), seed=seed).update(batch)
        forward, parameters = as_function(model)
        targets = as_targets(batch.labels, 5)

        def objective(images, which, forward=forward, parameters=parameters, targets=targets, update=update):
            made = local_update(forward, parameters, images, targets, loss=update.loss, local=update.local)
            return which(made, update.gradients)

        assert abs(float(objective(batch.images, within(distance)))) < 1e-12
        assert float(objective(batch.images, distance)) > 1e-6
        wrong = random_batch(2, seed=seed + 100).images
        assert float(objective(wrong, within(distance))) > 1e-9
        slope = torch.func.grad(lambda x, f=objective: f(x, within(distance)))(wrong)
        assert slope.isfinite().all()
        assert slope.norm() > 0


@settings(deadline=None, max_examples=40)
@given(shapes=SHAPES, seed=SEEDS, bits=st.integers(1, 6), ratio=st.floats(0, 0.95))
def test_bounds_hold_every_gradient_that_would_have_been_sent_the_same_and_not_much_more(shapes, seed, bits, ratio):
    update = update_of(shapes, seed)
    for defense, bounds in (
        (gradient.pruning(ratio), matching.PrunedBounds()),
        (gradient.quantization(bits), matching.QuantizedBounds(bits, False)),
        (gradient.sign_compression(), matching.SignBounds()),
    ):
        for name, sent in protected(defense, update).items():
            low, high = bounds(sent)
            value = update.gradients[name]
            assert (low <= value + 1e-12).all()
            assert (value <= high + 1e-12).all()
            place = torch.rand(sent.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            place = 0.001 + 0.998 * place
            other = low.clamp(min=-9).lerp(high.clamp(max=9), place)  # any gradient within the bounds ...
            if not isinstance(defense, gradient.SignCompression):
                other = other.where(value.abs() != value.abs().max(), value)  # ... with the same largest entry
            again = protected(defense, dataclasses.replace(update, gradients={name: other}))[name]
            if isinstance(defense, gradient.SignCompression):
                again, sent = again.sign(), sent.sign()
            torch.testing.assert_close(again, sent)  # is sent the same


def test_bounds_of_signs_are_half_lines_and_zero_is_a_point():
    low, high = matching.SignBounds()(torch.tensor([-0.5, 0.0, 0.5]))
    assert low.tolist() == [-math.inf, 0.0, 0.0]
    assert high.tolist() == [0.0, 0.0, math.inf]


def lenet_stages(digits: data.Dataset) -> dict[int, nn.Module]:
    start = models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15).double()
    return train(start, digits.batch(torch.arange(100, 1100)), stages=[0, 45])


def test_attacks_that_know_the_compression_recover_what_plain_ones_do_not():
    digits = data.load("digits")
    stages, batches = lenet_stages(digits), single_images(digits, 8)
    plain = small_attack(matching=matching.cosine(), optimizer=optimizers.adam(0.1), iterations=100)
    fine = dataclasses.replace(plain, optimizer=optimizers.adam(0.05), iterations=200)
    gains = {0: {"prune": 60, "signs": 5, "soteria": 60}, 45: {"prune": 5, "signs": 3, "soteria": 15}}
    for step, model in stages.items():
        for name, defense, within in (
            ("prune", gradient.pruning(0.9), matching.within_pruned),
            ("signs", gradient.sign_compression(), matching.within_signs),
            ("soteria", gradient.soteria(0.8), matching.sent_only),
        ):
            shared = updates(model, batches, defenses=(defense,), share_labels=True)
            coarse = plain.reconstruct_many(model, shared)
            knowing = dataclasses.replace(fine, matching=within(plain.matching))
            found = knowing.reconstruct_many(model, shared, after=coarse)
            gain = psnr(found, batches).median() - psnr(coarse, batches).median()
            assert gain > gains[step][name], (step, name, gain)


def test_few_entries_protect_and_error_feedback_takes_it_back():
    digits = data.load("digits")
    model, batches = lenet_stages(digits)[0], single_images(digits, 8)
    attack = small_attack(
        matching=matching.sent_only(matching.cosine()), optimizer=optimizers.adam(0.1), iterations=200
    )
    quality = {}
    for feedback in (False, True):
        shared = []
        for batch in batches:
            client = Client(model, defenses=(gradient.top_k(0.01, feedback=feedback),), share_labels=True)
            total, last = {}, {}
            for number in range(1, 17):
                update = client.update(batch, round=number)
                for name, value in update.gradients.items():
                    total[name] = total.get(name, 0) + value
                    last[name] = torch.where(value != 0, float(number), last.get(name, torch.ones_like(value)))
            entries = {name: value / last[name] for name, value in total.items()}
            shared.append(dataclasses.replace(update, gradients=entries))
        quality[feedback] = psnr(attack.reconstruct_many(model, shared), batches)
    assert quality[False].max() < 20
    assert quality[True].min() > 25


def test_memory_outlives_rounds_and_feedback_trains_better():
    digits = data.load("digits")
    training, unseen = digits.batch(torch.arange(1000)), digits.batch(torch.arange(1000, 1797))
    start, right = lenet_stages(digits)[0], {}
    for feedback in (False, True):
        client = Client(start, defenses=(gradient.top_k(0.01, feedback=feedback),))
        model = fit(client, training, rounds=120, learning_rate=0.05, batch_size=32)
        right[feedback] = (model(unseen.images.double()).argmax(dim=1) == unseen.labels).double().mean()
    assert right[True] > right[False] + 0.1, right


def test_nothing_changes_but_the_memory(capfd):
    model, batch = small_convnet(), random_batch(2)
    with nothing_changes(model, capfd):
        for make, _ in BOXES.values():
            Client(model, defenses=(make(),)).update(batch)


def test_errors_name_what_to_do():
    for wrong in (
        lambda: gradient.pruning(1.0),
        lambda: gradient.pruning(math.nan),
        lambda: gradient.pruning(0.5, scope="layer"),
        lambda: gradient.top_k(0.0),
        lambda: gradient.top_k(1.5),
        lambda: gradient.quantization(0),
        lambda: gradient.quantization(2.5),
        lambda: gradient.soteria(-0.1),
        lambda: Client(small_convnet(), defenses=(gradient.soteria(0.5, layer="conv1"),)).update(random_batch(1)),
    ):
        with pytest.raises(ValueError, match=r"got|it has"):
            wrong()
    defense = gradient.top_k(0.5)
    protected(defense, update_of([(3,)], 0))
    with pytest.raises(ValueError, match="of its own"):
        protected(defense, update_of([(4,)], 0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite_are_refused(value):
    update = Update({"p0": torch.tensor([1.0, value])}, 1, (1, 4, 4))
    for defense in (gradient.pruning(0.5), gradient.top_k(0.5), gradient.quantization(4), gradient.sign_compression()):
        with pytest.raises(ValueError, match="finite gradients"):
            protected(defense, update)


def test_soteria_wants_a_layer_with_a_row_of_features_a_sample():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = blank_linear(8, 5).double()
            nn.init.constant_(self.linear.weight, 0.1)
            nn.init.zeros_(self.linear.bias)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.linear(images.flatten(1, 2)).mean(dim=1)

    with pytest.raises(ValueError, match="B, features"):
        Client(Tokens(), defenses=(gradient.soteria(0.5),)).update(random_batch(1))


LITTLE = {torch.float16: 2**-10, torch.bfloat16: 2**-7}  # the relative step of the numbers, which rounding halves


@pytest.mark.parametrize("dtype", LITTLE)
def test_half_precision_stays_half_and_is_compressed_like_float32(dtype):
    value = torch.randn(3, 40, generator=torch.Generator().manual_seed(2)).to(dtype)
    half, full = (Update({"p0": one}, 1, (1, 4, 4)) for one in (value, value.float()))
    for defense in (
        gradient.pruning(0.7),
        gradient.pruning(0.7, scope="global"),
        gradient.top_k(0.3, feedback=False),
        gradient.quantization(2),
        gradient.quantization(16),
        gradient.quantization(8, stochastic=True),
        gradient.sign_compression(),
        gradient.sign_compression(scaled=False),
    ):
        sent = protected(defense, half)["p0"]
        assert sent.dtype == dtype
        assert torch.equal(sent, protected(defense, full)["p0"].to(dtype)), defense


@pytest.mark.parametrize("dtype", LITTLE)
def test_many_entries_of_half_precision_have_a_finite_scale(dtype):
    update = Update({"p0": torch.full((100_000,), -2.0, dtype=dtype)}, 1, (1, 4, 4))
    assert torch.equal(protected(gradient.sign_compression(), update)["p0"], update.gradients["p0"])


@pytest.mark.parametrize("dtype", LITTLE)
def test_error_feedback_in_half_precision_owes_what_rounding_took(dtype):
    """Small entries add up in the memory although they would vanish beside a large one in half precision."""
    defense, total = gradient.top_k(0.5), torch.zeros(4)
    update = Update({"p0": torch.tensor([1.0, 1.0, 0.3, 1e-4]).to(dtype)}, 1, (1, 4, 4))
    for _ in range(40):
        sent = protected(defense, update)["p0"]
        assert sent.dtype == dtype
        total += sent.float()
    owed = defense.memory["p0"]
    assert owed.dtype == torch.float32
    torch.testing.assert_close(total + owed, 40 * update.gradients["p0"].float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", BOXES)
def test_another_default_device_changes_nothing(name):
    make, model, batch = BOXES[name][0], small_convnet(activation="tanh"), random_batch(2)
    update, expected, found = Client(model).update(batch), make(), make()
    here = [protected(expected, expected.withhold(update, model=model, batch=batch)) for _ in range(2)]
    with torch.device("meta"):
        generators = [torch.Generator(device="cpu").manual_seed(0) for _ in range(2)]
        left = [found.withhold(update, model=model, batch=batch) for _ in range(2)]
        there = [found.protect(one, generator=g).gradients for one, g in zip(left, generators, strict=True)]
    for one, other in zip(here, there, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


class HeadFirst(nn.Module):
    """Two fully connected layers, of which the one that makes the logits is defined first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(6, 5).double(), nn.Linear(192, 6).double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images.flatten(1)).tanh())


def test_soteria_names_the_layer_that_makes_the_logits():
    with pytest.raises(ValueError, match=r"'linear' is no fully connected.*'head', 'body'.*'head' makes the logits"):
        Client(HeadFirst(), defenses=(gradient.soteria(0.5),)).update(random_batch(1))
    sent = Client(HeadFirst(), defenses=(gradient.soteria(0.5, layer="head"),)).update(random_batch(1))
    assert (sent.gradients["head.weight"] == 0).all(dim=0).sum() == 3


def test_soteria_refuses_a_layer_without_a_gradient():
    model = HeadFirst()
    model.head.weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"no gradient of 'head.weight'"):
        Client(model, defenses=(gradient.soteria(0.5, layer="head"),)).update(random_batch(1))


def test_scores_of_a_layer_whose_backward_pass_cannot_be_mapped():
    class Tanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            ctx.save_for_backward(values.tanh())
            return values.tanh()

        @staticmethod
        def backward(ctx, slope):
            return slope * (1 - ctx.saved_tensors[0].square())

    class Unmapped(HeadFirst):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(Tanh.apply(self.body(images.flatten(1))))

    plain, model, batch = HeadFirst(), Unmapped(), random_batch(3)
    model.load_state_dict(plain.state_dict())
    expected = gradient.feature_scores(plain, batch, layer="head")
    torch.testing.assert_close(gradient.feature_scores(model, batch, layer="head"), expected)


def test_scores_of_a_network_in_half_precision_are_those_of_its_float32_copy():
    model, batch = small_convnet(activation="tanh").half(), random_batch(2)
    scores = gradient.feature_scores(model, batch, layer="linear")
    assert torch.equal(scores, gradient.feature_scores(model.float(), batch, layer="linear"))
