"""Encrypted updates: the encoding, the two schemes, what they detect and what they do not, and who sees what."""

import hmac
import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import tenseal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phe.paillier import PaillierPrivateKey, PaillierPublicKey

from bench import encryption as bench
from gilib import data, metrics, models
from gilib.defenses.encryption import FixedPoint, ckks_keys, paillier_keys
from gilib.federated import Client, LocalTraining, Update
from gilib.recursion import phong, spear

RESULTS = Path(__file__).parents[2] / "bench" / "encryption.json"
SHORT = 512  # bits: these tests are about sums, not about security
CODEC = FixedPoint(bits=16, bound=4.0, clients=4)


@cache
def paillier(codec: FixedPoint = CODEC):
    return paillier_keys(codec, bits=SHORT)


@cache
def ckks():
    return ckks_keys(bound=4.0, clients=4)


@cache
def victims(count: int = 4):
    digits = data.load("digits")
    model = models.mlp(channels=1, size=8, hidden=(8,)).double()
    batches = [digits.batch(index) for index in range(count)]
    return model, batches, [Client(model).update(batch) for batch in batches]


def update_of(values) -> Update:
    return Update({"all": torch.as_tensor(values, dtype=torch.float64)}, batch_size=1, image_shape=(1, 8, 8))


def rounded(update: Update, codec: FixedPoint) -> Update:
    changed = {n: codec.decode(codec.encode(g.flatten())).reshape(g.shape) for n, g in update.gradients.items()}
    return replace(update, gradients=changed)


def mean(updates: list[Update], name: str) -> torch.Tensor:
    return torch.stack([update.gradients[name] for update in updates]).mean(dim=0)


codecs = st.builds(
    FixedPoint, bits=st.integers(2, 40), bound=st.floats(1e-3, 1e3, allow_nan=False), clients=st.integers(1, 100)
)


# ---- The encoding ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(codec=codecs, shares=st.lists(st.floats(-1, 1), min_size=1, max_size=12), clients=st.integers(1, 100))
def test_sums_of_packed_numbers_are_the_sums_within_the_quantization_step(codec, shares, clients):
    clients = min(clients, codec.clients)
    values = codec.bound * torch.tensor(shares, dtype=torch.float64)
    rolled = [values.roll(shift) for shift in range(clients)]
    total = sum(codec.pack(codec.encode(one)) for one in rolled)
    sums = codec.decode(codec.unpack(total, len(values)), clients=clients)
    assert (sums - sum(rolled)).abs().max() <= clients * codec.step * (0.5 + 1e-3)


@settings(deadline=None)
@given(codec=codecs)
def test_the_largest_sum_fills_its_slot_and_leaves_the_next_alone(codec):
    top = torch.full((1,), codec.bound, dtype=torch.float64)
    total = codec.clients * codec.pack(codec.encode(torch.cat([top, -top, top])))
    sums = codec.decode(codec.unpack(total, 3), clients=codec.clients)
    expected = codec.clients * codec.bound * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(sums, expected)
    assert codec.width == 1 or codec.clients * 2 * codec.largest >= 2 ** (codec.width - 1)  # no bit is wasted


@settings(deadline=None)
@given(codec=codecs, beyond=st.floats(1e-6, 1e6))
def test_a_value_outside_the_bound_is_an_error(codec, beyond):
    for value in (codec.bound * (1 + beyond), -codec.bound * (1 + beyond), float("nan"), float("inf")):
        with pytest.raises(ValueError, match="overflow"):
            codec.encode(torch.tensor([0.0, value], dtype=torch.float64))


def test_overflow_between_slots_is_an_error():
    codec = FixedPoint(bits=8, bound=1.0, clients=2)
    packed = codec.pack(codec.encode(torch.ones(5, dtype=torch.float64)))
    with pytest.raises(ValueError, match="overflow"):
        codec.decode(codec.unpack(3 * packed, 5), clients=2)
    with pytest.raises(ValueError, match="at most 2"):
        codec.decode([0], clients=3)
    with pytest.raises(ValueError, match="overflow"):
        codec.decode([2 * codec.largest + 1], clients=1)
    for wrong in (-1, 1 << codec.width):
        with pytest.raises(ValueError, match="overflow"):
            codec.pack([0, wrong, 0])


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"bits": 49}, {"bound": 0.0}, {"bound": float("inf")}, {"clients": 0}])
def test_settings_without_meaning_are_errors(wrong):
    with pytest.raises(ValueError, match="expected bits"):
        FixedPoint(**wrong)


# ---- The two schemes -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda d: st.lists(st.lists(st.floats(-4, 4), min_size=d, max_size=d), min_size=1, max_size=4)
    )
)
def test_decrypted_means_are_the_means(rows):
    sent = [update_of(row) for row in rows]
    exact = mean(sent, "all")
    for (public, secret), tolerance in ((paillier(), CODEC.step * 0.501), (ckks(), 1e-7)):
        total = public.add([public.encrypt(update) for update in sent])
        assert (secret.decrypt(total).gradients["all"] - exact).abs().max() <= tolerance


def test_paillier_adds_nothing_to_the_error_of_rounding():
    _, _, sent = victims()
    public, secret = paillier()
    total = secret.decrypt(public.add([public.encrypt(update) for update in sent[:2]]))
    for name, value in total.gradients.items():
        torch.testing.assert_close(value, mean([rounded(u, CODEC) for u in sent[:2]], name), rtol=0, atol=1e-12)
        assert value.shape == sent[0].gradients[name].shape
    assert total.batch_size == 2


def test_a_message_says_what_is_readable_and_no_more():
    model, batches, _ = victims()
    update = Client(model, share_labels=True).update(batches[0])
    for public, _ in (paillier(), ckks()):
        message, again = public.encrypt(update), public.encrypt(update)
        assert message.agreed.gradients == {}
        assert all(one != two for one, two in zip(message.blocks, again.blocks, strict=True))
        assert public.add([message, again]).agreed.labels is None
        assert message.size == sum(map(len, message.blocks))
        assert len(message.blocks) < 5000 // 4  # packed


def test_the_public_side_of_ckks_holds_no_secret_key():
    public, _ = ckks()
    message = public.encrypt(update_of([1.0]))
    with pytest.raises(ValueError, match="secret_key"):
        tenseal.ckks_vector_from(public.context, message.blocks[0]).decrypt()


@pytest.mark.parametrize("keys", [paillier, ckks])
def test_sums_that_do_not_fit_are_errors(keys):
    public, secret = keys()
    message = public.encrypt(update_of([1.0]))
    with pytest.raises(ValueError, match="room for the sum of 4"):
        public.add([message] * 5)
    with pytest.raises(ValueError, match="different shapes"):
        public.add([message, public.encrypt(update_of([1.0, 2.0]))])
    ordered = [
        replace(update_of([]), gradients={name: torch.ones(1, dtype=torch.float64) for name in names})
        for names in ("ab", "ba")
    ]
    with pytest.raises(ValueError, match="order"):  # the sum would add a's numbers to b's
        public.add([public.encrypt(one) for one in ordered])
    for blocks in ((), message.blocks * 2):
        with pytest.raises(ValueError, match="equally many"):
            public.add([message, replace(message, blocks=blocks)])
        with pytest.raises(ValueError, match="take 1 ciphertexts"):
            secret.decrypt(replace(message, blocks=blocks))
    with pytest.raises(ValueError, match="at least one"):
        public.add([])
    for use in (secret.decrypt, lambda one: public.add([one])):
        with pytest.raises(ValueError, match="encrypted under"):
            use(replace(message, key="Paillier 512 of somebody else"))
    with pytest.raises(ValueError, match="bound"):
        public.encrypt(update_of([4.1]))


def test_keys_without_room_are_errors():
    with pytest.raises(ValueError, match="room for 28 slots"):
        paillier_keys(CODEC, bits=SHORT, slots=29)
    with pytest.raises(ValueError, match="overflows a modulus"):
        ckks_keys(scale_bits=53)
    for wrong in ({"bound": -8.0}, {"bound": float("nan")}, {"clients": 0}):
        with pytest.raises(ValueError, match="bound over 0"):
            ckks_keys(**wrong)


@pytest.mark.parametrize("keys", [paillier, ckks])
def test_keys_are_not_printed_with_their_owners(keys):
    public, secret = keys()
    for owner in (public, secret):
        assert len(repr(owner)) < 250
    assert not any(hasattr(public.key if keys is paillier else public, name) for name in ("p", "q", "secret"))


def test_a_ciphertext_of_ckks_with_other_numbers_is_an_error():
    public, secret = ckks()
    message = public.encrypt(update_of([1.0, 2.0]))
    with pytest.raises(ValueError, match="expected 3 numbers"):
        secret.decrypt(replace(message, shapes={"all": (3,)}))


def test_the_ten_lines_of_the_chapter_are_paillier():
    p, q, r, m = 1009, 1013, 123_457, 4711
    n, order = p * q, (p - 1) * (q - 1)
    cipher = (1 + m * n) * pow(r, n, n * n) % (n * n)
    key = PaillierPublicKey(n)
    assert key.raw_encrypt(m, r_value=r) == cipher
    assert PaillierPrivateKey(key, p, q).raw_decrypt(cipher) == m
    assert (pow(cipher, order, n * n) - 1) // n * pow(order, -1, n) % n == m


# ---- What is detected ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(places=st.lists(st.integers(0, 2**31), min_size=1, max_size=3, unique=True))
def test_a_changed_bit_of_one_update_breaks_the_range_of_its_slots(places):
    public, secret = paillier()
    message = public.encrypt(update_of(torch.linspace(-1, 1, public.slots)))
    block = int.from_bytes(message.blocks[0])
    for place in places:
        block ^= 1 << place % (2 * SHORT - 2)
    changed = replace(message, blocks=(block.to_bytes(len(message.blocks[0])),))
    if changed != message:
        with pytest.raises(ValueError, match="changed"):
            secret.decrypt(changed)


@settings(deadline=None, max_examples=10)
@given(amount=st.integers(-1000, 1000).filter(bool))
def test_neither_scheme_detects_an_addition_and_authenticated_transport_does(amount):
    sent, link = update_of([0.5, -0.5]), b"sender and receiver only"
    public, secret = paillier()
    message = public.encrypt(sent)
    n, block = public.key.n, int.from_bytes(message.blocks[0])
    shifted = block * (1 + amount % n * n) % (n * n)  # encrypts amount more in the first slot, without any key
    forged = replace(message, blocks=(shifted.to_bytes(len(message.blocks[0])),))
    change = secret.decrypt(forged).gradients["all"] - secret.decrypt(message).gradients["all"]
    torch.testing.assert_close(change, torch.tensor([amount * CODEC.step, 0.0], dtype=torch.float64), rtol=0, atol=1e-9)
    assert not hmac.compare_digest(message.tag(link), forged.tag(link))

    public, secret = ckks()
    message = public.encrypt(sent)
    vector = tenseal.ckks_vector_from(public.context, message.blocks[0]).add([amount / 1000, 0.0])
    forged = replace(message, blocks=(vector.serialize(),))
    change = secret.decrypt(forged).gradients["all"] - secret.decrypt(message).gradients["all"]
    torch.testing.assert_close(change, torch.tensor([amount / 1000, 0.0], dtype=torch.float64), rtol=0, atol=1e-6)
    assert not hmac.compare_digest(message.tag(link), forged.tag(link))


def test_the_tag_covers_what_the_client_says():
    public, _ = ckks()
    told = replace(update_of([1.0, 2.0]), gradients={name: torch.ones(1, dtype=torch.float64) for name in "ab"})
    message = public.encrypt(told)
    parts = [
        {"shapes": {"b": (1,), "a": (1,)}},  # the same shapes, and the numbers would change places
        {"agreed": replace(message.agreed, labels=torch.tensor([3]))},
        {"agreed": replace(message.agreed, labels=torch.tensor([4]))},
        {"agreed": replace(message.agreed, buffers={"mean": torch.zeros(2)})},
        {"agreed": replace(message.agreed, buffers={"mean": torch.ones(2)})},
        {"agreed": replace(message.agreed, mode="train")},
        {"agreed": replace(message.agreed, image_shape=(1, 4, 16))},
        {"agreed": replace(message.agreed, local=LocalTraining(steps=2))},
        {"clients": 2},
        {"key": "other"},
        {"shapes": {"all": (1,)}},
        {"blocks": (message.blocks[0][:-1] + b"x",)},
        {"blocks": (message.blocks[0][:9], message.blocks[0][9:])},
        {"agreed": replace(message.agreed, batch_size=2)},
    ]
    tags = {message.tag(b"k"), message.tag(b"other"), *(replace(message, **part).tag(b"k") for part in parts)}
    assert len(tags) == len(parts) + 2
    assert message.tag(b"k") == replace(message).tag(b"k")


def test_ckks_decryptions_out_of_range_are_errors():
    public, secret = ckks()
    message = public.encrypt(update_of([1.0, 2.0]))
    vector = tenseal.ckks_vector_from(public.context, message.blocks[0]).add([100.0, 0.0])
    with pytest.raises(ValueError, match="changed"):
        secret.decrypt(replace(message, blocks=(vector.serialize(),)))


# ---- Who sees what ---------------------------------------------------------------------------------------------------


def test_the_key_holder_sees_a_single_update_and_the_server_does_not():
    model, batches, sent = victims()
    fine = FixedPoint(bits=20, bound=4.0, clients=4)
    for (public, secret), floor in ((paillier(fine), 80.0), (ckks(), 120.0)):
        for update, batch in zip(sent, batches, strict=True):
            message = public.encrypt(update)
            found = phong(model, secret.decrypt(message)).images.clamp(0, 1)
            assert metrics.psnr(found, batch.images.double()) > floor
            stream = torch.frombuffer(bytearray(b"".join(message.blocks)), dtype=torch.uint8)[: 2 * 64 * 8 + 900]
            noise = stream.double()[: sum(g.numel() for g in update.gradients.values())] / 127.5 - 1
            parts = noise.split([g.numel() for g in update.gradients.values()])
            read = {n: p.reshape(g.shape) for p, (n, g) in zip(parts, update.gradients.items(), strict=True)}
            guess = phong(model, replace(update, gradients=read)).images.clamp(0, 1)
            assert metrics.psnr(guess, batch.images.double()) < 10


def test_the_sum_of_two_decrypts_to_a_batch_that_spear_separates():
    digits = data.load("digits")
    model = models.mlp(channels=1, size=8, hidden=(32,)).double()
    public, secret = ckks()
    separated = 0
    for pair in range(6):
        batches = [digits.batch(1500 + 2 * pair + which) for which in range(2)]
        total = secret.decrypt(public.add([public.encrypt(Client(model).update(batch)) for batch in batches]))
        truth = torch.cat([batch.images for batch in batches]).double()
        found = spear(model, total, draws=5000).images.clamp(0, 1)
        separated += bool((metrics.psnr(found[metrics.match(found, truth)], truth) > 60).all())
    assert separated >= 4


# ---- The committed benchmark -----------------------------------------------------------------------------------------


def test_the_committed_sizes_and_errors_come_back():
    stored = json.loads(RESULTS.read_text())
    sent = bench.updates()
    numbers = sum(value.numel() for value in sent[0].gradients.values())
    assert (stored["numbers"], stored["step"]) == (numbers, bench.CODEC.step)
    rows = {row["name"]: row for row in stored["rows"]}
    rounding = bench.error(
        replace(sent[0], gradients={n: mean([rounded(u, bench.CODEC) for u in sent], n) for n in sent[0].gradients}),
        sent,
    )
    for name in random.sample([name for name in rows if name.startswith("Paillier") and "unpacked" not in name], 3):
        bits = int(name.split()[1].strip(","))
        blocks = -(-numbers // ((bits - 1) // bench.CODEC.width))
        assert (rows[name]["blocks"], rows[name]["bytes"]) == (blocks, blocks * bits // 4)
        assert rows[name]["error"] == pytest.approx(rounding, rel=1e-6)
        assert rows[name]["error"] <= bench.CODEC.step / 2 * 1.001
    assert rows["Paillier 2048, unpacked"]["bytes"] == numbers * 512
    degree = random.choice([4096, 8192])
    fresh = bench.row(f"CKKS {degree}", *ckks_keys(degree=degree), sent)
    assert fresh["bytes"] == pytest.approx(rows[f"CKKS {degree}"]["bytes"], rel=0.01)
    assert max(fresh["error"], rows[f"CKKS {degree}"]["error"]) < 1e-7


@pytest.mark.parametrize("keys", [paillier, ckks], ids=["Paillier", "CKKS"])
def test_another_default_device_changes_nothing(keys):
    public, secret = keys()
    _, _, updates = victims(2)
    with torch.device("meta"):
        found = secret.decrypt(public.add([public.encrypt(update) for update in updates]))
    for name, value in found.gradients.items():
        assert value.device.type == "cpu"
        assert (value - mean(updates, name)).abs().max() < CODEC.step
