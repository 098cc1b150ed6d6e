"""Changes of a vault that the power may interrupt, and what must hold afterwards; for stores in memory and on a real filesystem."""

import os

from models import RootKey
from warden.errors import StoreError
from warden.vault import Vault

A, B, C = b"first a", b"first b" * 30, b"first c"


def thorough():
    """STORE_CUTS=all in the environment: every cut, for whom it may take minutes."""
    return hasattr(os, "getenv") and os.getenv("STORE_CUTS") == "all"


def spread(total, dense, step):
    """Which operations to cut: the first ones, where it matters most, then each `step`th; all of them when thorough."""
    if thorough():
        return list(range(total))
    return list(range(min(total, dense))) + list(range(dense, total, step))


class Wrong(Exception):
    """The vault broke a promise."""


def _create(vault):
    vault.create()
    vault.commit({"a": A, "b": B, "c": C}, {"boot": 3})


# name -> (change, the state that it leads to: records and counters)
SCENARIOS = {
    "provision": (_create, ({"a": A, "b": B, "c": C}, 3)),
    "put new": (lambda vault: vault.put("d", b"new"), ({"a": A, "b": B, "c": C, "d": b"new"}, 3)),
    "replace": (
        lambda vault: vault.put("a", b"second a"),
        ({"a": b"second a", "b": B, "c": C}, 3),
    ),
    "delete": (lambda vault: vault.delete("b"), ({"a": A, "c": C}, 3)),
    "advance": (lambda vault: vault.advance("boot"), ({"a": A, "b": B, "c": C}, 4)),
    "batch": (
        lambda vault: vault.commit(
            {"a": b"second a", "b": None, "d": bytes(700), "c": b"second c"}, {"boot": 9}
        ),
        ({"a": b"second a", "c": b"second c", "d": bytes(700)}, 9),
    ),
}
OLD = SCENARIOS["provision"][1]


def old_state(name):
    """What stands before the change; None where there is no vault yet."""
    return None if name == "provision" else OLD


def fresh(store):
    return Vault(store, RootKey())


def opened(store):
    vault = fresh(store)
    vault.open()
    return vault


def begin(name, store):
    """The vault that the change is made on."""
    return fresh(store) if name == "provision" else opened(store)


def state(store):
    """(records, boot) of the vault in the store, None when it counts as not provisioned."""
    vault = fresh(store)
    try:
        vault.open()
    except StoreError as error:
        if error.code != "not-provisioned":
            raise Wrong("does not open: %s" % error)
        return None
    return {record: vault.get(record) for record in vault.names()}, vault.counter("boot")


def judge(name, make_store, finished):
    """After the cut: exactly old or new, nothing left over, and the device goes on. Returns "old" or "new"."""
    found = state(make_store())
    new = SCENARIOS[name][1]
    if found != new and (finished or found != old_state(name)):
        raise Wrong("neither old nor new: %r" % (found,))
    result = "new" if found == new else "old"
    store = make_store()
    if found is None:
        _create(fresh(store))
        found = new
    vault = opened(store)
    files = store.names()
    if len(files) != 2 + len(found[0]):
        raise Wrong("left over: %r" % (files,))
    boot = vault.advance("boot")
    if boot != found[1] + 1:
        raise Wrong("the counter went from %d to %d" % (found[1], boot))
    vault.commit({"a": b"after", "z": b"later"})
    expected = dict(found[0])
    expected.update({"a": b"after", "z": b"later"})
    if state(make_store()) != (expected, boot):
        raise Wrong("the next change was lost")
    return result
