"""The audit log: a chain in which a changed, missing or moved row shows."""

import pytest
from host_kit import refused
from warden_host.store import audit_export
from warden_host.store.audit import MAX_ACTION, find_break
from warden_host.store.operators import Operator
from warden_host.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        for number in range(5):
            opened.add_audit("owner root", f"revoke D{number}")
        yield opened


def check(store) -> tuple:
    return find_break(store.audit_rows(), store.audit_base())


def test_a_row_and_its_outcome(store):
    started = store.add_audit("alice a", "x" * 2000)
    store.add_audit("alice a", "x", "no-session", started)
    action, outcome = store.latest_audit_rows(2)
    assert (action.id, len(action.action), action.outcome) == (6, MAX_ACTION, "")
    assert (outcome.started, outcome.outcome) == (6, "no-session")
    assert check(store) == (7, None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE audit SET who = 'bob' WHERE id = 3", (2, (3, "changed"))),
        ("UPDATE audit SET outcome = 'ok' WHERE id = 3", (2, (3, "changed"))),
        ("UPDATE audit SET time = time + 1 WHERE id = 5", (4, (5, "changed"))),
        ("UPDATE audit SET started = 1 WHERE id = 1", (0, (1, "changed"))),
        ("DELETE FROM audit WHERE id = 1", (0, (1, "missing"))),
        ("DELETE FROM audit WHERE id = 4", (3, (4, "missing"))),
    ],
)
def test_what_was_done_to_the_table_shows(store, change, expected):
    store._db.execute("DROP TRIGGER audit_unchanged")
    store._db.execute(change)
    assert check(store) == expected


def test_no_program_changes_a_row_by_mistake(store):
    with refused("database-damaged"):
        store._do("UPDATE audit SET outcome = 'ok' WHERE id = 3")
    assert check(store) == (5, None)


def test_the_chain_goes_on_after_a_trim(store):
    for last in (3, 5):
        (row,) = [row for row in store.audit_rows() if row.id == last]
        store.trim_audit(row)
        assert store.audit_base() == (last, row.hash)
        assert [row.id for row in store.audit_rows()] == list(range(last + 1, 6))
    assert store.add_audit("owner root", "keys make") == 6
    assert check(store) == (1, None)
    # A trim of which nobody has the base.
    store._do("DELETE FROM settings WHERE name = 'audit_base'")
    assert check(store) == (0, (1, "missing"))


@pytest.mark.parametrize("gap", [False, True])
def test_a_chain_that_is_broken_is_not_exported(store, tmp_path, gap):
    """gap: a row is missing, and the hash of the next was made anew."""
    store._db.execute("DROP TRIGGER audit_unchanged")
    if gap:
        before, last = store.latest_audit_rows(2)
        moved = last._replace(id=last.id + 1)
        change = "UPDATE audit SET id = ?, hash = ? WHERE id = ?"
        store._do(change, moved.id, moved.expected_hash(before.hash), last.id)
    else:
        store._do("UPDATE audit SET who = 'bob' WHERE id = 3")
    with refused("audit-broken"):
        audit_export.export(store, tmp_path / "log")


def test_one_user_is_one_operator(store):
    store.put_operator(Operator("alice", 1001, "a", ("command", "look")))
    with refused("operator-exists"):
        store.put_operator(Operator("bob", 1001, "a", ("look",)))
    store.put_operator(Operator("alice", 1001, "a", ("update",)))
    assert store.operator_of(1001) == ("alice", 1001, "a", ("update",))
    assert store.operator_of(1002) is None
    store.remove_operator("alice")
    assert store.operator_of(1001) is None
    with refused("operator-unknown"):
        store.remove_operator("alice")


def test_operators_of_the_console_alone_are_no_unix_user(store):
    for name in ("alice", "bob", "alice"):
        store.put_operator(Operator(name, None, "", ("look",)))
    assert [(one.name, one.uid) for one in store.operators()] == [("alice", None), ("bob", None)]
    taken = [uid for (uid,) in store._do("SELECT uid FROM operators")]
    assert len(set(taken)) == 2 and max(taken) < 0
    assert not any(store.operator_of(uid) for uid in (*taken, 0, -1))
    store.put_operator(Operator("alice", 0, "root", ("look",)))
    assert store.operator_of(0).name == "alice"
