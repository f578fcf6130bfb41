"""Secure aggregation: sums are exact whoever drops out, too few are refused, changes are noticed, views are noise."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from victims import nothing_changes

from bench import secure_aggregation as bench
from gilib import data, metrics, models
from gilib.defenses.aggregation_messages import (
    Agreement,
    ProtocolError,
    Request,
    as_bytes,
    as_residues,
    flat,
    mean_update,
)
from gilib.defenses.aggregation_parties import shared_key
from gilib.defenses.encryption import FixedPoint
from gilib.defenses.secret_sharing import PRIME
from gilib.defenses.secure_aggregation import PROTOCOLS, MaskingMember, Protocol, Round, aggregate
from gilib.federated import Client
from gilib.recursion import phong

RESULTS = Path(__file__).parents[2] / "bench" / "secure_aggregation.json"
CODEC = FixedPoint(bits=20, bound=4.0, clients=100)
EACH = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
WORDS = ("share", "upload", "answer")


def agreement(clients: int = 5, private: int = 2, needed: int = 4, numbers: int = 7) -> Agreement:
    return Agreement(numbers, clients, private, needed, CODEC)


def vectors(agreed: Agreement, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(agreed.clients, agreed.numbers, generator=generator, dtype=torch.float64)
    return list(8 * drawn - 4)


def exact(agreed: Agreement, values: list[torch.Tensor], members) -> torch.Tensor:
    """The sum of the members' codes, added as whole numbers, decoded: what the protocols must give to the last bit."""
    codes = np.sum([agreed.encode(values[client]) for client in members], axis=0)
    return agreed.codec.decode(codes.tolist(), clients=len(members))


def expected_members(protocol: Protocol, agreed: Agreement, lost: dict[int, str]) -> tuple[int, ...]:
    out = {"share"} if protocol.name == "fast" else {"share", "upload"}
    return tuple(client for client in range(agreed.clients) if lost.get(client) not in out)


@st.composite
def rounds(draw):
    """An agreement and a set of dropouts that leaves enough clients."""
    clients = draw(st.integers(2, 7))
    needed = draw(st.integers(2, clients))
    agreed = agreement(clients, draw(st.integers(1, needed - 1)), needed, draw(st.integers(1, 9)))
    who = draw(st.lists(st.integers(0, clients - 1), unique=True, max_size=clients - needed))
    return agreed, {client: draw(st.sampled_from(WORDS)) for client in who}


def by_hand(protocol: Protocol, agreed: Agreement, values: list[torch.Tensor]):
    """The parties of a round, as far as the uploads: members, server, letters and uploads."""
    members, server = [protocol.member(number, agreed) for number in range(agreed.clients)], protocol.server(agreed)
    for member, one in zip(members, values, strict=True):
        member.hold(one)
    keys = server.forward_keys([member.advertise() for member in members])
    boxes = server.forward([letter for member in members for letter in member.share(keys)])
    uploads = [member.upload(boxes[member.number]) for member in members]
    return members, server, boxes, uploads


# ---- Sums ------------------------------------------------------------------------------------------------------------


@EACH
@settings(deadline=None, max_examples=40)
@given(case=rounds(), seed=st.integers(0, 10**6))
def test_the_sum_is_exact_whoever_drops_out(protocol, case, seed):
    agreed, lost = case
    values = vectors(agreed, seed)
    found = aggregate(protocol, agreed, values, lost=lost)
    assert found.members == expected_members(protocol, agreed, lost)
    assert torch.equal(found.sums, exact(agreed, values, found.members))
    plain = torch.stack([values[client] for client in found.members]).sum(dim=0)
    assert (found.sums - plain).abs().max() <= len(found.members) * CODEC.step * (0.5 + 1e-6)


@EACH
def test_another_default_device_changes_nothing(protocol):
    agreed = agreement()
    values = vectors(agreed)
    with torch.device("meta"):
        found = aggregate(protocol, agreed, values)
    assert torch.equal(found.sums, exact(agreed, values, range(5)))


@EACH
@settings(deadline=None, max_examples=15)
@given(case=rounds(), word=st.sampled_from(WORDS), seed=st.integers(0, 10**6))
def test_one_client_too_few_is_refused(protocol, case, word, seed):
    agreed, _ = case
    order = np.random.default_rng(seed).permutation(agreed.clients)
    gone = {int(client): word for client in order[: agreed.clients - agreed.needed + 1]}
    with pytest.raises(ProtocolError, match=f"{agreed.needed} of {agreed.clients} clients are needed"):
        aggregate(protocol, agreed, vectors(agreed), lost=gone)


@cache
def lenet_updates() -> list[torch.Tensor]:
    return bench.updates(100)


@EACH
def test_a_hundred_lenet_updates_with_twenty_dropouts_sum_exactly(protocol):
    values = lenet_updates()
    assert values[0].shape == (15_826,)
    agreed = Agreement(15_826, 100, 50, 80, bench.CODEC)
    lost = {client: WORDS[client % 3] for client in range(0, 100, 5)}
    found = aggregate(protocol, agreed, values, lost=lost)
    assert found.members == expected_members(protocol, agreed, lost)
    assert torch.equal(found.sums, exact(agreed, values, found.members))
    plain = torch.stack([values[client] for client in found.members]).sum(dim=0)
    assert (found.sums - plain).abs().max() <= len(found.members) * bench.CODEC.step / 2


@EACH
def test_the_largest_sum_does_not_wrap_around(protocol):
    agreed = Agreement(2, 5, 2, 4, FixedPoint(bits=28, bound=1.0, clients=5))  # 2 * largest * 5 is two thirds of PRIME
    for sign in (1.0, -1.0):
        found = aggregate(protocol, agreed, [torch.full((2,), sign, dtype=torch.float64)] * 5)
        torch.testing.assert_close(found.sums, torch.full((2,), 5 * sign, dtype=torch.float64))


def test_mean_updates_are_updates():
    model, digits = models.mlp(channels=1, size=8, hidden=(8,)).double(), data.load("digits")
    sent = [Client(model, share_labels=True).update(digits.batch([index, index + 1])) for index in range(4)]
    agreed = Agreement(flat(sent[0]).numel(), 4, 1, 3, CODEC)
    mean = mean_update(aggregate(PROTOCOLS["light"], agreed, [flat(one) for one in sent]).sums, sent)
    assert (mean.batch_size, mean.labels) == (8, None)
    for name, value in mean.gradients.items():
        plain = torch.stack([one.gradients[name] for one in sent]).mean(dim=0)
        torch.testing.assert_close(value, plain, rtol=0, atol=CODEC.step)


@EACH
def test_a_round_leaves_the_global_state_alone(protocol, capfd):
    threads, agreed = torch.get_num_threads(), agreement()
    with nothing_changes(models.mlp(channels=1, size=8, hidden=(8,)), capfd):
        aggregate(protocol, agreed, vectors(agreed), lost={0: "upload"})
    assert torch.get_num_threads() == threads


# ---- Refusals and changes --------------------------------------------------------------------------------------------


def test_a_client_never_reveals_seed_and_key_of_the_same_client():
    agreed = agreement()
    members, server, _, uploads = by_hand(PROTOCOLS["masking"], agreed, vectors(agreed))
    honest = server.request(uploads)
    for wrong in (
        Request((0, 1, 2, 3, 4), (3,)),  # both of client 3
        Request((1, 2, 3, 4), (0,)),  # asked of client 0, who is there
        Request((0, 1, 2, 3, 3, 4)),
    ):
        with pytest.raises(ProtocolError, match="named twice"):
            members[0].answer(wrong)
    with pytest.raises(ProtocolError, match="leaves some out"):
        members[1].answer(Request((0, 1, 2, 3)))
    with pytest.raises(ProtocolError, match=r"no letter of clients \[9\]"):
        members[2].answer(Request((0, 1, 2, 3, 4, 9)))
    assert members[3].answer(honest)
    with pytest.raises(ProtocolError, match="has answered"):
        members[3].answer(Request((0, 1, 2, 3), (4,)))


@EACH
def test_a_client_answers_once_and_only_for_enough(protocol):
    agreed = agreement()
    members, server, _, uploads = by_hand(protocol, agreed, vectors(agreed))
    with pytest.raises(ProtocolError, match="4 of 5 clients are needed, and there are 3"):
        members[0].answer(Request((0, 1, 2), (3, 4)))
    request = server.request(uploads)
    members[0].answer(request)
    with pytest.raises(ProtocolError, match="has answered"):
        members[0].answer(request)
    with pytest.raises(ProtocolError, match="shared in this round already"):
        members[0].share([member.advertise() for member in members])


@EACH
@settings(deadline=None, max_examples=20)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_letter_is_noticed(protocol, place, bit):
    agreed = agreement()
    members, _, boxes, _ = by_hand(protocol, agreed, vectors(agreed))
    letter, body = boxes[1][0], bytearray(boxes[1][0].body)
    body[place % len(body)] ^= 1 << bit
    changed = (
        replace(letter, body=bytes(body)),
        replace(letter, body=letter.body[:-1]),
        replace(letter, body=b""),
        replace(letter, sender=2),  # in somebody else's name
        replace(boxes[2][0], receiver=1),  # to somebody else
    )
    for one in changed:
        with pytest.raises(ProtocolError, match="changed on its way"):
            members[1].upload([one])


def advertised(protocol, agreed):
    """Members that hold their updates, and the keys that they advertise."""
    members = [protocol.member(number, agreed) for number in range(agreed.clients)]
    for member in members:
        member.hold(vectors(agreed)[member.number])
    return members, [member.advertise() for member in members]


@EACH
def test_keys_that_are_not_ones_own_are_noticed(protocol):
    agreed = agreement()
    members, keys = advertised(protocol, agreed)
    strangers = (replace(keys[1], client=-1), replace(keys[1], client=5))  # share -1 would be that of client 4
    for wrong in (
        [*keys[1:], replace(keys[1], client=0)],
        [*keys, keys[1]],
        keys[1:],
        *([*keys[:4], one] for one in strangers),
    ):
        with pytest.raises(ProtocolError, match="its own among them"):
            members[0].share(wrong)
    assert len(members[0].share(keys)) == 4  # nothing was shared before


@EACH
@pytest.mark.parametrize("field", ["sealing", "masking"])
def test_a_peer_in_several_places_is_noticed(protocol, field):
    members, keys = advertised(protocol, agreement())
    keys[3] = replace(keys[3], **{field: getattr(keys[4], field)})
    with pytest.raises(ProtocolError, match="public keys that all differ"):
        members[0].share(keys)


@EACH
def test_a_client_shares_and_uploads_only_among_enough(protocol):
    agreed = agreement()
    members, keys = advertised(protocol, agreed)
    with pytest.raises(ProtocolError, match="keys: 4 of 5 clients are needed, and there are 3"):
        members[0].share(keys[:3])
    letters = [letter for member in members for letter in member.share(keys) if letter.receiver == 0]
    with pytest.raises(ProtocolError, match="letters: 4 of 5 clients are needed, and there are 3"):
        members[0].upload(letters[:2])
    members[0].upload(letters[:3])


@EACH
def test_a_client_uploads_once(protocol):
    """Two uploads with other letters differ by pair masks alone, and with another update by the difference of both."""
    agreed = agreement(needed=3)
    members, _, boxes, _ = by_hand(protocol, agreed, vectors(agreed))
    members[0].hold(vectors(agreed, seed=1)[0])
    with pytest.raises(ProtocolError, match="has uploaded"):
        members[0].upload(boxes[0])


@EACH
def test_letters_and_answers_of_another_length_are_refused(protocol):
    agreed = agreement()
    members, server, _, uploads = by_hand(protocol, agreed, vectors(agreed))
    short = replace(uploads[2], body=as_bytes(np.zeros(1, dtype=np.int64)))  # NumPy would add it to every number
    for wrong, says in (
        ([*uploads[:2], short, *uploads[3:]], "of one length"),
        ([*uploads[:4], uploads[0]], "one of each client"),
        ([*uploads[:4], replace(uploads[4], client=7)], "one of each client that shared"),
    ):
        with pytest.raises(ProtocolError, match=says):
            server.request(wrong)
    request = server.request(uploads)
    answers = [member.answer(request) for member in members]
    for wrong in ([*answers[:4], answers[0]], [*answers[:4], replace(answers[4], body=answers[4].body[:-4])]):
        with pytest.raises(ProtocolError, match="answers: expected one of each"):
            server.total(wrong)
    with pytest.raises(ValueError, match="4 bytes"):
        server.total([*answers[:4], replace(answers[4], body=answers[4].body[:-1])])
    assert torch.equal(server.total(answers), exact(agreed, vectors(agreed), range(5)))

    peers = [protocol.member(number, agreed) for number in range(5)]
    for peer in peers:
        peer.hold(vectors(agreed)[peer.number])
    keys = [peer.advertise() for peer in peers]
    letters = [letter for peer in peers for letter in peer.share(keys) if letter.receiver == 0]
    letters[0] = replace(letters[0], body=peers[1]._sealed(0, b"four"))
    with pytest.raises(ProtocolError, match=r"those of clients \[1\]"):
        peers[0].upload(letters)


@EACH
def test_no_key_meets_a_nonce_twice_and_no_letter_comes_back(protocol):
    """Both directions between two clients have one key: a letter must not pass for its answer."""
    agreed = agreement()
    members, _, boxes, _ = by_hand(protocol, agreed, vectors(agreed))
    nonces = [letter.body[:12] for box in boxes.values() for letter in box]
    assert len(set(nonces)) == len(nonces) == 20
    for letter in boxes[1]:
        with pytest.raises(ProtocolError, match="changed on its way"):
            members[letter.sender].upload([replace(letter, sender=1, receiver=letter.sender)])


def test_keys_have_one_purpose_and_two_owners():
    one, other, third = (X25519PrivateKey.generate() for _ in range(3))
    public = {key: key.public_key().public_bytes_raw() for key in (one, other, third)}
    assert shared_key(one, public[other], b"mask") == shared_key(other, public[one], b"mask")
    assert len({shared_key(one, public[key], use) for key in (other, third) for use in (b"mask", b"letter")}) == 4
    keys = MaskingMember(0, agreement()).advertise()
    assert keys.sealing != keys.masking  # the secret half of the second may be revealed


@EACH
def test_a_changed_answer_is_noticed(protocol):
    """Where there are more answers than needed, and in the masking protocol also where a seed comes out impossible."""
    agreed = agreement()
    members, server, _, uploads = by_hand(protocol, agreed, vectors(agreed))
    request = server.request(uploads)
    answers = [member.answer(request) for member in members]
    residues = as_residues(answers[2].body)
    residues[0] = (residues[0] + 1) % PRIME
    answers[2] = replace(answers[2], body=as_bytes(residues))
    with pytest.raises(ValueError, match="changed"):
        server.total(answers)
    if protocol.name == "masking":
        with pytest.raises(ProtocolError, match="restore something else"):
            server.total(answers[:4])


def test_a_changed_key_of_a_dropout_is_noticed():
    agreed = agreement()
    members, server, _, uploads = by_hand(PROTOCOLS["masking"], agreed, vectors(agreed))
    server._keys[4] = replace(server._keys[4], masking=server._keys[3].masking)
    request = server.request(uploads[:4])
    with pytest.raises(ProtocolError, match="not the one it advertised"):
        server.total([member.answer(request) for member in members[:4]])


@pytest.mark.parametrize("name", ["masking", "light"])
def test_a_changed_upload_is_not_noticed(name):
    """Nobody but the client knows what it holds: an upload may be anything, and moves the sum by as much."""
    agreed = agreement()
    members, server, _, uploads = by_hand(PROTOCOLS[name], agreed, vectors(agreed))
    residues = as_residues(uploads[2].body)
    residues[3] = (residues[3] + 5) % PRIME
    request = server.request([*uploads[:2], replace(uploads[2], body=as_bytes(residues)), *uploads[3:]])
    total = server.total([member.answer(request) for member in members])
    moved = torch.tensor([0, 0, 0, 5, 0, 0, 0], dtype=torch.float64) * CODEC.step
    torch.testing.assert_close(total - exact(agreed, vectors(agreed), range(5)), moved, rtol=0, atol=1e-9)


def forgetful(protocol: Protocol, agreed: Agreement) -> None:
    """A round as far as the uploads, in which client 0 has no update."""
    members, server = [protocol.member(number, agreed) for number in range(5)], protocol.server(agreed)
    for member in members[1:]:
        member.hold(vectors(agreed)[0])
    keys = server.forward_keys([member.advertise() for member in members])
    boxes = server.forward([letter for member in members for letter in member.share(keys)])
    members[0].upload(boxes[0])


@EACH
def test_errors_name_what_to_do(protocol):
    agreed = agreement()
    with pytest.raises(ValueError, match="overflow"):
        aggregate(protocol, agreed, [torch.full((7,), 4.1)] * 5)
    with pytest.raises(ValueError, match="expected 7 numbers"):
        aggregate(protocol, agreed, [torch.zeros(8)] * 5)
    for wrong in ({"lost": {0: "keys"}}, {}):
        with pytest.raises(ValueError, match="expected 5 updates"):
            aggregate(protocol, agreed, vectors(agreed)[: 5 if wrong else 4], **wrong)
    with pytest.raises(ValueError, match="hold"):
        forgetful(protocol, agreed)
    update = Client(models.mlp(channels=1, size=8, hidden=(8,))).update(data.load("digits").batch(0))
    for total, members in ((torch.zeros(8), [update]), (flat(update), [])):
        with pytest.raises(ValueError, match="expected"):
            mean_update(total, members)
    for sizes in ((5, 0, 4), (5, 4, 4), (5, 2, 6)):
        with pytest.raises(ValueError, match="private < needed"):
            agreement(*sizes)
    with pytest.raises(ValueError, match="must fit"):
        Agreement(7, 200, 2, 4, CODEC)
    with pytest.raises(ValueError, match="must fit"):
        Agreement(7, 100, 2, 4, replace(CODEC, bits=25))


# ---- What the server sees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["masking", "light"])
def test_uploads_of_a_constant_update_look_uniform(name):
    agreed = agreement(numbers=40_000)
    found = aggregate(PROTOCOLS[name], agreed, [torch.ones(40_000, dtype=torch.float64)] * 5)
    for upload in found.uploads.values():
        assert stats.chisquare(np.bincount(upload * 64 // PRIME, minlength=64)).pvalue > 1e-6
        assert abs(np.corrcoef(upload[:-1], upload[1:])[0, 1]) < 0.05
    views = np.stack(list(found.uploads.values()))
    assert np.abs(np.corrcoef(views) - np.eye(5)).max() < 0.05  # two or more of them, seen together


@pytest.mark.parametrize("name", ["fast", "light"])
def test_what_private_clients_hold_of_an_update_is_uniform(name):
    agreed = agreement(numbers=80_000)
    members, _, _, _ = by_hand(PROTOCOLS[name], agreed, [torch.ones(80_000, dtype=torch.float64)] * 5)
    first, second = (as_residues(members[holder]._received[0]) for holder in (1, 2))
    table = np.histogram2d(first, second, bins=8, range=[[0, PRIME]] * 2)[0]
    assert stats.chisquare(table.flatten()).pvalue > 1e-6


def test_two_masks_of_a_client_are_not_one():
    """The self mask is what keeps an update safe whose sender was declared dead: both masks are needed to open it."""
    agreed = agreement()
    values = vectors(agreed)
    members, server, _, uploads = by_hand(PROTOCOLS["masking"], agreed, values)
    request = server.request(uploads[1:])  # the upload of client 0 is late, or the server says so
    assert request.dropped == (0,)
    total = server.total([member.answer(request) for member in members[1:]])
    assert torch.equal(total, exact(agreed, values, range(1, 5)))
    late = as_residues(uploads[0].body)
    opened = (late - _pairwise_part(server, members)) % PRIME  # all that the revealed key of client 0 gives
    assert not np.array_equal(opened, agreed.encode(values[0]))
    assert np.array_equal((opened - _own_mask(members[0], agreed)) % PRIME, agreed.encode(values[0]))


def _pairwise_part(server, members) -> np.ndarray:
    from gilib.defenses.secure_aggregation.masking import pair_mask

    key, count = members[0]._masking, server.agreed.numbers
    return sum(pair_mask(0, key, peer, server._keys[peer].masking, count) for peer in range(1, 5))


def _own_mask(member, agreed: Agreement) -> np.ndarray:
    from gilib.defenses.secret_sharing import uniform

    return uniform(agreed.numbers, seed=member._seed)


@EACH
def test_nothing_repeats_from_round_to_round(protocol):
    agreed = agreement()
    first, second = (by_hand(protocol, agreed, vectors(agreed)) for _ in range(2))
    assert first[0][0].advertise() != second[0][0].advertise()
    assert first[2][1][0].body != second[2][1][0].body
    assert protocol.name == "fast" or first[3][0].body != second[3][0].body


def test_a_model_that_silences_all_others_gives_one_client_away():
    """Model inconsistency: with dead first layers elsewhere, the sum has one client's first layer in it."""
    digits, model = data.load("digits"), models.mlp(channels=1, size=8, hidden=(32,)).double()
    dead = models.mlp(channels=1, size=8, hidden=(32,)).double()
    with torch.no_grad():
        dead.linear1.weight.zero_()
        dead.linear1.bias.fill_(-1.0)
    agreed = Agreement(2_410, 10, 5, 8, replace(bench.CODEC, clients=10))
    for target in range(4):
        sent = [Client(model if client == target else dead).update(digits.batch(client)) for client in range(10)]
        found = aggregate(PROTOCOLS["masking"], agreed, [flat(one) for one in sent])
        image = phong(model, mean_update(found.sums, sent)).images.clamp(0, 1)
        assert metrics.psnr(image, digits.batch(target).images.double()) > 60
        fair = aggregate(PROTOCOLS["masking"], agreed, [flat(Client(model).update(digits.batch(c))) for c in range(10)])
        image = phong(model, mean_update(fair.sums, sent)).images.nan_to_num().clamp(0, 1)
        assert metrics.psnr(image, digits.batch(target).images.double()) < 25


# ---- The committed benchmark -----------------------------------------------------------------------------------------


def test_the_committed_bytes_come_back():
    stored = json.loads(RESULTS.read_text())
    rows = {(row["protocol"], row["clients"]): row for row in stored["rows"]}
    assert rows.keys() == {(name, clients) for name in PROTOCOLS for clients in bench.CLIENTS}
    for name in PROTOCOLS:
        fresh = bench.row(PROTOCOLS[name], bench.updates(10))
        for key in ("bytes", "kinds", "members", "error"):
            assert (
                fresh[key] == pytest.approx(rows[name, 10][key])
                if key == "error"
                else fresh[key] == rows[name, 10][key]
            )
        for clients in bench.CLIENTS:
            assert rows[name, clients]["bytes"] == bench.predicted_bytes(name, clients)
            assert rows[name, clients]["error"] <= clients * bench.CODEC.step / 2


def test_a_round_reports_what_was_sent():
    agreed = agreement()
    found = aggregate(PROTOCOLS["masking"], agreed, vectors(agreed), lost={3: "upload"})
    assert isinstance(found, Round)
    assert found.sent[3].keys() == {"advertise", "share"}
    letter = 12 + 16 + 4 * 32  # nonce, tag, 16 numbers of the seed and 16 of the key
    assert found.sent[0] == {"advertise": 64, "share": 4 * letter, "upload": 4 * 7, "answer": 4 * 16 * 5}
