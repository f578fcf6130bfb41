"""Tables: batches of rows, columns of two kinds, and how much of a row TabLeak gets out of a gradient."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gilib import models
from gilib.data import Batch, Column, Columns, Table, TableBatch, load_table
from gilib.federated import Client, train
from gilib.frontiers.tables import SoftColumns, aligned, cells_right, doubt, guessed, order_of, softened, tableak
from gilib.recursion import spear

SMALL = Columns((Column("age", (), 50.0, 10.0), Column("blood", ("A", "B", "0")), Column("smokes", ("no", "yes"))))
RECORDS = [(40.0, "B", "no"), (65.0, "A", "yes"), (50.0, "0", "no")]


@pytest.fixture(scope="module")
def table():
    return load_table()


@pytest.fixture(scope="module")
def victim(table):
    model = models.mlp(2, channels=80, size=1, hidden=(100, 100)).double()
    batch = table.batch([3, 30, 300, 500])
    return model, batch, Client(model, share_labels=True, seed=0).update(batch)


# --- Rows ---


def test_records_become_rows_and_come_back():
    rows = SMALL.encode(RECORDS)
    assert rows.tolist()[0] == [-1, 0, 1, 0, 1, 0]
    assert SMALL.decode(rows) == RECORDS


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([(40.0, "B", "no"), (65.0, "A")], "3 entries in row 1.*got 2"),
        ([(40.0, "AB", "no")], "category 'AB' in column 'blood'; expected one of 'A', 'B', '0'"),
        ([("old", "A", "no")], "'old' in column 'age'; expected a number"),
    ],
)
def test_what_is_no_record_is_refused(records, message):
    with pytest.raises(ValueError, match=message):
        SMALL.encode(records)


def test_numbers_stand_before_categories():
    with pytest.raises(ValueError, match="numbers before"):
        Columns(SMALL.columns[::-1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(2, 3, 1), r"shape \(B, D\).*got \(2, 3, 1\)"),
        (torch.zeros(2, 0), r"got \(2, 0\)"),
        (torch.zeros(2, 3).long(), "int64"),
        (torch.full((2, 3), torch.nan), "NaN"),
        (torch.zeros(2, 3, device="meta"), "meta"),
    ],
)
def test_what_is_no_batch_of_rows_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        TableBatch(rows, torch.tensor([0, 1]))


def test_a_person_is_in_a_batch_once(table):
    with pytest.raises(ValueError, match=r"\[7\] more than once"):
        table.batch([7, 3, 7])
    with pytest.raises(IndexError, match="from 0 to 568"):
        table.batch([569])
    with pytest.raises(ValueError, match="whole numbers"):
        table.batch([0.5])
    with pytest.raises(ValueError, match="80 inputs, got 79"):
        Table(table.rows[:, 1:], table.labels, table.columns, table.classes)


def test_the_medical_table(table):
    assert (len(table), len(table.columns), table.columns.width, table.columns.numbers) == (569, 30, 80, 10)
    numbers, _ = table.columns.cells(table.rows)
    assert torch.allclose(numbers.mean(dim=0), torch.zeros(10).double(), atol=1e-9)
    assert all(torch.equal(block.sum(dim=1), torch.ones(569).double()) for block in table.columns.blocks(table.rows))
    assert repr(table.batch([0])) == "TableBatch(rows=(1, 80) torch.float64, labels=[0])"
    assert load_table(numbers=0, levels=(2, 2)).columns.levels == [2] * 30
    with pytest.raises(ValueError, match="the one table"):
        load_table("adult")


# --- The client ---


def test_a_client_takes_rows_as_it_takes_images(victim):
    model, batch, update = victim
    assert update.input_shape == update.image_shape == (80,)
    loss = nn.functional.cross_entropy(model(batch.inputs), batch.labels)
    for name, value in zip(update.gradients, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        assert torch.allclose(update.gradients[name], value, atol=1e-12)
    after = train(model, batch, stages=[20], learning_rate=0.1)[20]
    assert (after(batch.inputs).argmax(dim=1) == batch.labels).all()


def test_an_image_batch_has_inputs_too():
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))
    assert batch.inputs is batch.images
    assert repr(batch) == "Batch(images=(2, 1, 4, 4) torch.float32, labels=[0, 1])"


def test_spear_takes_rows(victim):
    model, batch, update = victim
    found = spear(model, update)
    assert found.exact
    assert cells_right(load_table().columns, found.images, batch.inputs).all()


# --- The attack ---


def test_softened_rows_are_probabilities():
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    soft = softened(SMALL, rows)
    assert torch.equal(soft[:, 0], rows[:, 0])
    assert torch.allclose(soft[:, 1:4], rows[:, 1:4].softmax(dim=1))
    assert torch.allclose(soft[:, 4:], rows[:, 4:].softmax(dim=1))
    assert torch.equal(SoftColumns(SMALL).images(rows.flatten(), (3, 6)), soft)


def test_a_small_batch_comes_back(victim, table):
    model, batch, update = victim
    attack = tableak(table.columns, starts=2, iterations=200, rate=0.2)
    found = attack.reconstruct(model, update)
    right = cells_right(table.columns, found.rows, batch.inputs)
    best = cells_right(table.columns, found.best, batch.inputs)
    guess = cells_right(table.columns, guessed(table.columns, table, batch.labels, by_label=True), batch.inputs)
    assert best.double().mean() > 0.95
    assert right.double().mean() > 0.9 > guess.double().mean() + 0.3
    assert found.labels.tolist() == batch.labels.tolist()
    assert (found.objectives.diff() >= 0).all()
    assert found.doubt.shape == (4, 30)


def test_numbers_are_not_clamped(victim, table):
    model, batch, update = victim
    attack = tableak(table.columns, starts=1, iterations=30, rate=0.2)
    assert batch.inputs[:, :10].abs().max() > 1
    [found] = [attack.reconstruct(model, update).rows]
    assert found[:, :10].min() < 0


def test_an_update_of_other_columns_is_refused(victim):
    model, _, update = victim
    with pytest.raises(ValueError, match=r"rows with 6 inputs.*got inputs of shape \(80,\)"):
        tableak(SMALL).reconstruct(model, update)
    with pytest.raises(ValueError, match="at least one start"):
        replace(tableak(SMALL), starts=0)


def test_pooling_aligns_rows_of_the_same_label_only():
    rows = SMALL.encode(RECORDS)
    starts = torch.stack([rows, rows[[2, 1, 0]], rows[[1, 0, 2]]])
    labels = torch.tensor([0, 0, 0])
    assert torch.equal(aligned(starts, labels), rows.expand(3, 3, 6))
    apart = aligned(starts[:2], torch.tensor([0, 1, 2]))
    assert torch.equal(apart[1], starts[1])


def test_doubt_is_zero_where_starts_agree_and_one_where_levels_are_even():
    rows = SMALL.encode(RECORDS)
    assert torch.allclose(doubt(SMALL, rows.expand(4, 3, 6)), torch.zeros(3, 3).double(), atol=1e-6)
    two = torch.stack([rows, SMALL.encode([(60.0, "B", "yes"), *RECORDS[1:]])])
    found = doubt(SMALL, two)
    assert found[0].tolist() == pytest.approx([1.0, 0.0, 1.0], abs=1e-6)


def test_cells_are_compared_after_matching():
    rows = SMALL.encode(RECORDS)
    found = SMALL.encode([(50.0, "0", "no"), (42.0, "A", "no"), (65.0, "A", "yes")])
    right = cells_right(SMALL, found, rows)
    assert right.tolist() == [[True, False, True], [True] * 3, [True] * 3]  # 42 is within a third of ten of 40
    assert order_of(SMALL, found, rows).tolist() == [1, 2, 0]
    few = cells_right(SMALL, found[:1], rows)
    assert few.tolist() == [[False] * 3, [False] * 3, [True] * 3]
    with pytest.raises(ValueError, match="6 inputs"):
        cells_right(SMALL, found[:, :5], rows)


def test_guesses_are_the_commonest_of_all_or_of_a_label():
    rows = SMALL.encode([*RECORDS, (66.0, "A", "yes"), (49.0, "A", "yes")])
    public = Table(rows, torch.tensor([0, 1, 0, 1, 1]), SMALL, ("well", "ill"))
    labels = torch.tensor([0, 1])
    assert {record[1:] for record in SMALL.decode(guessed(SMALL, public, labels))} == {("A", "yes")}
    by_label = SMALL.decode(guessed(SMALL, public, labels, by_label=True))
    assert [record[2] for record in by_label] == ["no", "yes"]
    assert by_label[1][0] == pytest.approx(65, abs=1)
