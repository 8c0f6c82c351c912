"""Names of connections, kept for their later parts."""

from apptell.flows import FlowBatch
from apptell.flows.parts import ConnectionNames


def flows(*rows):
    """Flows of (connection id, part, server name)."""
    ids, parts, names = zip(*rows, strict=True)
    return FlowBatch.from_columns({"connection_id": ids, "part": parts, "server_name": names})


def names_of(batch):
    return batch.column("server_name").to_pylist()


def test_a_later_part_has_the_names_that_ended_before_it():
    known = ConnectionNames()
    known.learn(flows((1, 0, "a.example"), (2, 0, None)))
    assert names_of(known.fill(flows((1, 1, None), (2, 1, None), (3, 0, None)))) == [
        "a.example",
        None,
        None,
    ]


def test_what_a_part_shows_itself_stands():
    known = ConnectionNames()
    known.learn(flows((1, 0, "a.example")))
    assert names_of(known.fill(flows((1, 1, "b.example")))) == ["b.example"]


def test_one_batch_gives_what_several_give():
    rows = [(1, 0, "a.example"), (1, 1, None), (1, 2, "b.example"), (1, 3, None), (2, 1, None)]
    whole, apart = ConnectionNames(), ConnectionNames()
    expected = names_of(whole.learn_and_fill(flows(*rows)))
    found = [name for row in rows for name in names_of(apart.learn_and_fill(flows(row)))]
    assert found == expected == ["a.example", "a.example", "b.example", "b.example", None]


def test_the_connection_that_ended_first_is_forgotten_first():
    known = ConnectionNames(2)
    known.learn(flows((1, 0, "a.example"), (2, 0, "b.example"), (3, 0, "c.example")))
    assert len(known) == 2
    assert names_of(known.fill(flows((1, 1, None), (3, 1, None)))) == [None, "c.example"]


def test_first_parts_are_left_as_they_are():
    known = ConnectionNames()
    batch = flows((1, 0, "a.example"), (2, 0, None))
    assert known.learn_and_fill(batch) is batch
