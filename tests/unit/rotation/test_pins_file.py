"""Pins by a signed file: what is refused, what one commit changes, and each power cut."""

import hashlib

from agent_kit import NOW, Rig, provisioned
from board_model import DictStore, PowerCut, RootKey
from harness import check, equal, raises
from test_bundle import good
from warden.errors import PeerError, StoreError
from warden.rotation.pins_file import apply
from warden.rotation.rotation import prepare
from warden.vault import Vault, records
from warden.wire import cbor

VENDOR = b"v" * 16
OLD, NEW = [[b"old"], [b"L" * 32, b"B" * 32]], [[b"new"], [b"N" * 32, b"O" * 32]]


class Key:
    """A release key whose signatures are the digest and its own byte."""

    algorithms = (-7,)

    def __init__(self, key):
        self._key = key

    def verify(self, digest, signature):
        return bytes(signature) == digest + self._key[:32]


def verifiers(keys):
    return [Key(key) for key in keys]


def signed(payload, key=b"P" * 32):
    protected = cbor.encode({1: -7})
    structure = cbor.encode(["Signature1", protected, b"", payload])
    signature = hashlib.sha256(structure).digest() + key
    return cbor.encode([payload, cbor.encode([protected, {}, None, signature])])


def pins(made=NOW, trust=NEW, vendor=VENDOR, label="warden pins", version=1):
    return cbor.encode([label, version, vendor, made, trust])


def board(release=True):
    bundle = good()
    bundle["trust"] = OLD
    bundle.pop("release", None)
    if release:
        bundle["release"] = [VENDOR, b"c" * 16, [b"R" * 64, b"P" * 64]]
    return Rig(provisioned(bundle))


def trust(vault):
    again = Vault(vault.store, RootKey())
    again.open()
    return records.load(again, "trust")


def test_they_take_the_place_of_the_old_ones():
    rig = board()
    apply(rig.agent, signed(pins()), verifiers)
    equal(trust(rig.agent.vault), NEW)
    equal([rig.agent.trust.cas, rig.agent.trust.pins], NEW)
    equal(rig.agent.vault.counter("pins"), NOW)


def test_what_is_refused():
    rig = board()
    data = signed(pins())
    for code, bad in (
        ("cbor-limit", bytes(5121)),
        ("cbor-malformed", b""),
        ("cbor-malformed", data[:-1]),
        ("cbor-malformed", data + b"\0"),
        ("cose-malformed", cbor.encode([b"", b"", b""])),
        ("cose-malformed", cbor.encode(["", b""])),
        ("cose-malformed", cbor.encode([pins(), b"\x83"])),
        ("tampered", signed(pins(), b"X" * 32)),
        ("tampered", data.replace(b"N" * 32, b"M" * 32)),
        ("bad-body", signed(b"\x00")),
        ("bad-body", signed(pins(label="warden pin"))),
        ("bad-body", signed(pins(version=2))),
        ("bad-body", signed(cbor.encode([-16, b"d" * 32]))),  # what a manifest's signature is of
        ("bad-body", signed(pins(made=True))),
        ("bad-body", signed(pins(made=0))),
        ("wrong-device", signed(pins(vendor=b"w" * 16))),
        ("bad-body", signed(pins(trust=[[b"new"], [b"N" * 32]]))),
        ("bad-body", signed(pins(trust=[[], NEW[1]]))),
    ):
        check(isinstance(raises(code, apply, rig.agent, bad, verifiers), PeerError))
    equal(trust(rig.agent.vault), OLD)
    equal(rig.agent.vault.counter("pins"), 0)
    without = board(release=False)
    check(isinstance(raises("not-provisioned", apply, without.agent, data, verifiers), StoreError))


def test_no_file_counts_twice_or_late():
    rig = board()
    vault = rig.agent.vault
    apply(rig.agent, signed(pins()), verifiers)
    for made in (NOW, NOW - 1):
        raises("old-pins", apply, rig.agent, signed(pins(made, OLD)), verifiers)
    # Nor one from before the authority was heard, or ordered other pins.
    vault.advance("time", NOW + 100)
    raises("old-pins", apply, rig.agent, signed(pins(NOW + 100, OLD)), verifiers)
    prepare(vault, {"id": 1, "trust": [[b"ca"], NEW[1]]}, b"N" * 32, NOW + 200)
    raises("old-pins", apply, rig.agent, signed(pins(NOW + 200, OLD)), verifiers)
    apply(rig.agent, signed(pins(NOW + 201, OLD)), verifiers)
    equal(trust(vault), OLD)


def test_pins_that_wait_for_their_proof_go():
    rig = board()
    agent = rig.agent
    orders = {"id": 1, "trust": [[b"x"], OLD[1]], "password": b"new"}
    agent.link = None
    for order, left in ((orders, ["password"]), ({"id": 2, "trust": orders["trust"]}, None)):
        agent.vault.delete("rotation")
        prepare(agent.vault, order, OLD[1][0], NOW)
        from warden.rotation import commands

        commands.start(agent)
        apply(agent, signed(pins(NOW + order["id"])), verifiers)
        equal(None if agent.rotation is None else agent.rotation.secrets.pending(), left)
        equal("rotation" in agent.vault.names(), left is not None)
        equal(trust(agent.vault), NEW)


def test_a_cut_leaves_the_old_pins_or_the_new_ones():
    start = board().agent.vault
    prepare(start, {"id": 1, "trust": [[b"x"], OLD[1]], "password": b"new"}, OLD[1][0], NOW)
    files = start.store.files
    total, found = None, []
    for budget in range(1000):
        store = DictStore(files)
        vault = Vault(store, RootKey())
        vault.open()
        rig = Rig(vault)
        if total is None:
            store.log.clear()
        store.budget = budget
        try:
            apply(rig.agent, signed(pins(NOW + 1)), verifiers)
            total = budget
        except PowerCut:
            pass
        store.budget = None
        again = Vault(store, RootKey())
        again.open()
        new = records.load(again, "trust") == NEW
        found.append(new)
        equal(again.counter("pins"), NOW + 1 if new else NOW)
        equal(cbor.decode(again.get("rotation"))[4] is None, new)
        check(new or records.load(again, "trust") == OLD)
        if total is not None:
            break
    equal(found, sorted(found))
    check(found[-1] and not found[0])
    print("pins by a file: %d cuts" % total)
