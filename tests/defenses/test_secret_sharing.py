"""Secret sharing: the field, the transform, and what enough and too few shares say."""

import itertools

import galois
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gilib.defenses.secret_sharing import PRIME, FastSharing, Sharing, product, root_of_unity, transform, uniform

BOTH = pytest.mark.parametrize("kind", [Sharing, FastSharing])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def threads():
    """The compiler of galois sets the threads of the whole process, those of PyTorch included: set them back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@st.composite
def sharings(draw):
    clients = draw(st.integers(2, 20))
    private = draw(st.integers(1, clients - 1))
    return clients, private, draw(st.integers(1, clients - private))


def residues(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, PRIME, shape)


def chosen(seed: int, shares: np.ndarray, count: int) -> dict[int, np.ndarray]:
    """The shares of ``count`` random clients."""
    return {int(client): shares[client] for client in np.random.default_rng(seed).permutation(len(shares))[:count]}


# ---- The field -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(seed=seeds, sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)))
def test_the_matrix_product_is_exact(seed, sizes):
    left, right = residues(seed, *sizes[:2]), residues(seed + 1, *sizes[1:])
    assert np.array_equal(product(left, right), (left.astype(object) @ right.astype(object)) % PRIME)


def test_the_matrix_product_is_exact_where_it_is_largest():
    left, right = np.full((2, 5000), PRIME - 1), np.full((5000, 2), PRIME - 1)
    assert (product(left, right) == 5000).all()  # (-1)(-1), five thousand times


@settings(deadline=None)
@given(seed=seeds, exponent=st.integers(0, 5), columns=st.integers(1, 3))
def test_the_transform_agrees_with_its_definition_and_with_galois_and_inverts(seed, exponent, columns):
    order = 2**exponent
    values, root = residues(seed, order, columns), root_of_unity(order)
    naive = [
        [sum(int(values[i, c]) * pow(root, i * j, PRIME) for i in range(order)) % PRIME for c in range(columns)]
        for j in range(order)
    ]
    assert np.array_equal(transform(values), naive)
    assert np.array_equal(transform(transform(values), inverse=True), values)
    if order > 1:
        theirs = galois.ntt(values[:, 0].tolist(), modulus=PRIME)
        assert sorted(np.asarray(theirs).tolist()) == sorted(transform(values)[:, 0].tolist())  # another root


def test_roots_have_their_order_and_nothing_else_is_one():
    for order in (1, 2, 64, 2**27):
        root = root_of_unity(order)
        assert pow(root, order, PRIME) == 1
        assert order == 1 or pow(root, order // 2, PRIME) == PRIME - 1
    for wrong in (0, 3, 2**28):
        with pytest.raises(ValueError, match="power of two"):
            root_of_unity(wrong)


@settings(deadline=None, max_examples=20)
@given(seed=st.binary(min_size=32, max_size=32), count=st.integers(0, 300))
def test_a_seed_determines_a_stream_whose_beginning_does_not_depend_on_its_length(seed, count):
    long = uniform(300, seed=seed)
    assert np.array_equal(uniform(count, seed=seed), long[:count])
    assert ((long >= 0) & (long < PRIME)).all()


def test_streams_are_uniform_and_differ():
    for stream in (uniform(200_000, seed=b"0" * 32), uniform(200_000)):
        counts = np.bincount(stream * 64 // PRIME, minlength=64)
        assert stats.chisquare(counts).pvalue > 1e-6
    assert not np.array_equal(uniform(8, seed=b"0" * 32), uniform(8, seed=b"1" * 32))
    assert not np.array_equal(uniform(8), uniform(8))
    with pytest.raises(ValueError, match="32 bytes"):
        uniform(8, seed=b"short")


# ---- Enough shares ---------------------------------------------------------------------------------------------------


@BOTH
@settings(deadline=None, max_examples=40)
@given(sizes=sharings(), seed=seeds, columns=st.integers(1, 4), more=st.integers(0, 20))
def test_any_set_of_enough_shares_gives_the_secrets(kind, sizes, seed, columns, more):
    sharing = kind(*sizes)
    values = residues(seed, sharing.packed, columns)
    count = min(sharing.clients, sharing.needed + more)
    assert np.array_equal(sharing.recover(chosen(seed, sharing.share(values), count)), values)


@settings(deadline=None, max_examples=40)
@given(sizes=sharings(), seed=seeds)
def test_matrix_and_fft_make_the_same_shares(sizes, seed):
    slow, fast = Sharing(*sizes), FastSharing(*sizes)
    values, pads = residues(seed, slow.packed, 3), residues(seed + 1, slow.private, 3)
    shares = slow.share(values, pads=pads)
    assert np.array_equal(shares, fast.share(values, pads=pads))
    assert np.array_equal(shares, product(slow.code, np.concatenate([values, pads])))


@BOTH
def test_every_subset_of_enough_shares_gives_the_secret(kind):
    sharing, secret = kind(6, private=3), residues(0, 1, 2)
    shares = sharing.share(secret)
    for subset in itertools.combinations(range(6), sharing.needed):
        assert np.array_equal(sharing.recover({client: shares[client] for client in subset}), secret)


@BOTH
@settings(deadline=None, max_examples=30)
@given(sizes=sharings(), seed=seeds)
def test_sums_of_shares_are_shares_of_sums(kind, sizes, seed):
    sharing = kind(*sizes)
    values = residues(seed, 3, sharing.packed, 2)
    total = sum(sharing.share(one) for one in values)
    for one in (total, total % PRIME):
        assert np.array_equal(sharing.recover(chosen(seed, one, sharing.needed)), values.sum(axis=0) % PRIME)
        assert np.array_equal(sharing.recover(dict(enumerate(one))), values.sum(axis=0) % PRIME)


# ---- Too few, and changed ones ---------------------------------------------------------------------------------------


@BOTH
@settings(deadline=None, max_examples=30)
@given(sizes=sharings(), seed=seeds)
def test_every_secret_is_consistent_with_the_shares_of_private_clients(kind, sizes, seed):
    """For any other secrets there are pads, and exactly one choice of them, that give the same ``private`` shares."""
    sharing = kind(*sizes)
    values, other = residues(seed, sharing.packed, 1), residues(seed + 1, sharing.packed, 1)
    held = chosen(seed, sharing.share(values), sharing.private)
    clients, field = sorted(held), galois.GF(PRIME)
    rows = sharing.code[clients]
    square = field(rows[:, sharing.packed :])
    gap = (np.stack([held[client] for client in clients]) - product(rows[:, : sharing.packed], other)) % PRIME
    assert np.linalg.matrix_rank(square) == sharing.private
    pads = np.asarray(np.linalg.solve(square, field(gap)), dtype=np.int64)
    again = sharing.share(other, pads=pads)
    assert all(np.array_equal(again[client], held[client]) for client in clients)


def test_single_shares_are_uniform_whatever_the_secret():
    for kind in (Sharing, FastSharing):
        shares = kind(5, private=2, packed=2).share(np.zeros((2, 40_000), dtype=np.int64))
        for share in shares:
            assert stats.chisquare(np.bincount(share * 64 // PRIME, minlength=64)).pvalue > 1e-6


@BOTH
@settings(deadline=None, max_examples=30)
@given(sizes=sharings(), seed=seeds, change=st.integers(1, PRIME - 1))
def test_a_changed_share_is_noticed_where_there_are_more_than_needed(kind, sizes, seed, change):
    sharing = kind(*sizes)
    values = residues(seed, sharing.packed, 2)
    shares = sharing.share(values)
    victim = seed % sharing.clients
    shares[victim, 1] = (shares[victim, 1] + change) % PRIME
    if sharing.clients > sharing.needed:
        with pytest.raises(ValueError, match="one polynomial"):
            sharing.recover(dict(enumerate(shares)))
    else:  # nothing is left over to compare with
        assert not np.array_equal(sharing.recover(dict(enumerate(shares))), values)


@BOTH
def test_errors_name_what_to_do(kind):
    sharing = kind(5, private=2, packed=2)
    shares = dict(enumerate(sharing.share(residues(0, 2, 3))))
    with pytest.raises(ValueError, match=r"at least 4 .* got those of 3: \[0, 1, 2\]"):
        sharing.recover({client: shares[client] for client in range(3)})
    with pytest.raises(ValueError, match="clients 0 to 4"):
        sharing.recover(shares | {7: shares[0]})
    with pytest.raises(ValueError, match=r"shape \(2, M\)"):
        sharing.share(residues(0, 3, 3))
    for wrong in ((5, 0, 2), (5, 2, 0), (5, 3, 3)):
        with pytest.raises(ValueError, match="at least 1"):
            kind(*wrong)
