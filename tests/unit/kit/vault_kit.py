"""Changes of a vault that the power may interrupt, and what must hold afterwards; for stores in
memory and on a real filesystem."""

import os

from board_model import DictStore, RootKey
from warden.errors import StoreError
from warden.vault import Vault
from warden.wire import cbor

A, B, C = b"first a", b"first b" * 30, b"first c"
OLD_KEY, NEW_KEY = b"r" * 32, b"n" * 32


# These take many operations: only so many of their cuts are healed under a second cut.
LONG = ("reseal", "rotate", "rotate, proven")


def heals_at(name, budget):
    """Whether the start after this cut is cut as well."""
    return thorough() or name not in LONG or budget % 8 == 1


def thorough():
    """STORE_CUTS=all in the environment: every cut, for whom it may take minutes."""
    return hasattr(os, "getenv") and os.getenv("STORE_CUTS") == "all"


def spread(total, dense, step):
    """Which operations to cut: the first ones, where it matters most, then each `step`th; all of
    them when thorough."""
    if thorough():
        return list(range(total))
    return list(range(min(total, dense))) + list(range(dense, total, step))


class Wrong(Exception):
    """The vault broke a promise."""


def _create(vault):
    vault.create()
    vault.commit({"a": A, "b": B, "c": C}, {"boot": 3})


# What a rotation is made on, and its order.
BROKER = cbor.encode(["broker.example", 8883, b"user", b"old password", "client"])
TRUSTED = cbor.encode([[b"ca"], [b"L" * 32, b"B" * 32]])
APP = cbor.encode([b"o" * 32, True, []])
ORDER = {
    "id": 1,
    "password": b"new password",
    "trust": [[b"ca"], [b"L" * 32, b"N" * 32]],
    "apps": {"home": b"n" * 32},
    "release": [bytes(16), bytes(16), [bytes(64)]],
}


def _provide(vault):
    vault.commit({"broker": BROKER, "trust": TRUSTED, "app_home": APP})


def _order(vault):
    from warden.rotation.rotation import prepare

    prepare(vault, ORDER, b"L" * 32, 1800000000)


def _prove(vault):
    from warden.rotation.rotation import Rotation

    waiting = Rotation(vault)
    waiting.choose("password")
    waiting.choose("trust")
    waiting.prove(True, ["home"])


def _reseal(vault):
    from warden.vault.rekey import reseal

    reseal(vault, RootKey(NEW_KEY))


# name -> (what goes before it and is not cut, the change)
SCENARIOS = {
    "provision": ((), _create),
    "put new": ((), lambda vault: vault.put("d", b"new")),
    "replace": ((), lambda vault: vault.put("a", b"second a")),
    "delete": ((), lambda vault: vault.delete("b")),
    "advance": ((), lambda vault: vault.advance("boot")),
    "batch": (
        (),
        lambda vault: vault.commit(
            {"a": b"second a", "b": None, "d": bytes(700), "c": b"second c"}, {"boot": 9}
        ),
    ),
    "rotate": ((_provide,), _order),
    "rotate, proven": ((_provide, _order), _prove),
    "reseal": ((), _reseal),
}
_states = {}


def states(name):
    """(before, after) as state() gives them; before is None where there is no vault yet.

    Found on a store that keeps its promises.
    """
    if name not in _states:
        store = DictStore()
        if name != "provision":
            _create(fresh(store))
        vault = begin(name, store)
        before = state(store) if name != "provision" else None
        SCENARIOS[name][1](vault)
        _states[name] = before, state(store)
    return _states[name]


def fresh(store, key=OLD_KEY):
    return Vault(store, RootKey(key))


def opened(store):
    """By whichever of the two root keys opens it: a board that has both tries one after the
    other."""
    vault = fresh(store)
    try:
        vault.open()
    except StoreError as error:
        if error.code != "root-key":
            raise
        vault = fresh(store, NEW_KEY)
        vault.open()
    return vault


def begin(name, store):
    """The vault that the change is made on."""
    if name == "provision":
        return fresh(store)
    vault = opened(store)
    if name in SCENARIOS:
        for step in SCENARIOS[name][0]:
            step(vault)
    return vault


def change(name, vault):
    SCENARIOS[name][1](vault)


def state(store):
    """(records, boot, whether the new root key opens it) of the vault in the store, None when it
    counts as not provisioned."""
    try:
        vault = opened(store)
    except StoreError as error:
        if error.code != "not-provisioned":
            raise Wrong("does not open: %s" % error)
        return None
    records = {record: vault.get(record) for record in vault.names()}
    return records, vault.counter("boot"), vault._root.mac(b"") == RootKey(NEW_KEY).mac(b"")


def check_after_cut(name, make_store, finished):
    """After the cut: exactly old or new, nothing left over, and the device goes on.

    Returns "old" or "new".
    """
    old, new = states(name)
    found = state(make_store())
    if found != new and (finished or found != old):
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
    if state(make_store()) != (expected, boot, found[2]):
        raise Wrong("the next change was lost")
    return result
