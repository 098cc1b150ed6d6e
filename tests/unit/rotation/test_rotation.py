"""Rotation of secrets: refused commands, the order of attempts, and a power cut at each step."""

from board_model import DictStore, PowerCut, RootKey
from harness import check, equal, link_failure, raises
from test_bundle import good
from warden.errors import PeerError, StoreError
from warden.provisioning.bundle import install
from warden.rotation.rotation import Rotation, prepare
from warden.vault import Vault, records
from warden.wire import cbor

NOW = 1800000000
LIVE, BACKUP, NEXT = b"L" * 32, b"B" * 32, b"N" * 32
TRUST = [[b"ca certificate"], [LIVE, NEXT]]
PASSWORD, KEY = b"a new password", b"K" * 32
RELEASE = [b"v" * 16, b"c" * 16, [b"P" * 64, b"R" * 384]]


def made():
    store = DictStore()
    vault = Vault(store, RootKey())
    install(vault, cbor.encode(good()))
    return vault


def ending(moment):
    """What follows a pin that ends."""
    return moment.to_bytes(8, "big")


def appids(vault):
    return [app.appid for app in records.load_apps(vault)]


def command(vault, **changes):
    args = {"id": 1, "password": PASSWORD, "trust": TRUST, "apps": {appids(vault)[0]: KEY}}
    args.update(changes)
    return {name: value for name, value in args.items() if value is not None}


def accept(vault, **changes):
    return prepare(vault, command(vault, **changes), LIVE, NOW)


def refused(code, vault, **changes):
    before = (vault.generation, vault.get("rotation"), vault.counter("rotation"))
    check(isinstance(raises(code, accept, vault, **changes), PeerError))
    equal((vault.generation, vault.get("rotation"), vault.counter("rotation")), before)


def reopened(vault):
    again = Vault(vault.store, RootKey())
    again.open()
    return again


def secrets(vault):
    """What the device goes by: password, pins and CAs, the first application's key."""
    first = appids(vault)[0]
    return (
        records.load(vault, "broker")[3],
        records.load(vault, "trust"),
        records.load(vault, "app_" + first)[0],
    )


def test_kept_by_one_commit():
    vault = made()
    old, generation = secrets(vault), vault.generation
    check(accept(vault))
    equal((vault.generation, vault.counter("rotation")), (generation + 1, 1))
    equal(secrets(vault), old)
    what = Rotation(reopened(vault))
    equal((what.password, what.trust, what.deadline), (PASSWORD, TRUST, None))
    equal(sorted(what.pending()), sorted(["password", "trust", "app_" + appids(vault)[0]]))


def test_each_part_alone():
    for part in ("password", "trust", "apps"):
        vault = made()
        others = {name: None for name in ("password", "trust", "apps") if name != part}
        check(accept(vault, **others))
        equal(len(Rotation(vault).pending()), 1)


def test_malformed_commands():
    vault = made()
    first = appids(vault)[0]
    taken = records.load_apps(vault)[0].key
    for changes in (
        {"id": 0},
        {"id": -1},
        {"id": True},
        {"id": 1 << 32},
        {"id": "1"},
        {"id": None},
        {"more": 1},
        {"password": None, "trust": None, "apps": None},
        {"password": ""},
        {"password": b""},
        {"password": "text"},
        {"password": bytes(4001)},
        {"password": records.load(vault, "broker")[3]},
        {"trust": [[], [LIVE, NEXT]]},
        {"trust": [[b"ca"], [LIVE]]},
        {"trust": [[b"ca"], [LIVE, LIVE]]},
        {"trust": [[b"ca"], [LIVE, b"short"]]},
        {"trust": [[b"ca"], [BACKUP, NEXT]]},
        {"trust": [[b"ca"] * 5, [LIVE, NEXT]]},
        {"trust": [[bytes(2049)], [LIVE, NEXT]]},
        {"trust": [[b"ca"], [LIVE] + [bytes((i,)) * 32 for i in range(6)]]},
        {"trust": [[b"ca"], [LIVE + ending(NOW), NEXT]]},
        {"trust": [[b"ca"], [LIVE + ending(NOW + 9), NEXT + ending(NOW + 9)]]},
        {"trust": [[b"ca"], [LIVE + ending(NOW + 9), LIVE]]},
        {"trust": [[b"ca"], [LIVE + bytes(7), NEXT]]},
        {"trust": {"cas": []}},
        {"apps": {}},
        {"apps": [KEY]},
        {"apps": {"nobody": KEY}},
        {"apps": {1: KEY}},
        {"apps": {first: KEY[1:]}},
        {"apps": {first: "K" * 32}},
        {"apps": {first: taken}},
        {"deadline": 59},
        {"deadline": 30 * 86400 + 1},
        {"deadline": True},
        {"deadline": "60"},
        {"password": bytes(3900), "trust": [[bytes(1000)], [LIVE, NEXT]]},
        {"release": []},
        {"release": [b"v" * 15, b"c" * 16, [b"P" * 64]]},
        {"release": [b"v" * 16, b"c" * 17, [b"P" * 64]]},
        {"release": [b"v" * 16, b"c" * 16, []]},
        {"release": [b"v" * 16, b"c" * 16, [b"P" * 63]]},
        {"release": [b"v" * 16, b"c" * 16, [bytes((i,)) * 64 for i in range(5)]]},
        {"release": {"keys": []}},
    ):
        refused("bad-body", vault, **changes)
        equal(vault.get("release"), None)
    check(accept(vault, deadline=60))


def test_one_key_for_two_applications():
    fields = good()
    fields["apps"].append(["second", b"2" * 32, False, ["get"]])
    vault = Vault(DictStore(), RootKey())
    install(vault, cbor.encode(fields))
    apps = {appid: KEY for appid in appids(vault)}
    refused("bad-body", vault, apps=apps)
    refused("bad-body", vault, apps={appids(vault)[0]: b"2" * 32})
    check(accept(vault, apps={appids(vault)[0]: KEY, "second": NEXT}))


def test_new_pins_need_a_connection():
    vault = made()
    raises("bad-body", prepare, vault, command(vault), b"", NOW)


def test_the_same_command_again():
    """The reply was lost, or the authority asks how it stands."""
    vault = made()
    check(accept(vault, deadline=60))
    generation = vault.generation
    check(not prepare(vault, command(vault, deadline=60), LIVE, NOW + 30))
    equal((vault.generation, Rotation(vault).deadline), (generation, NOW + 60))
    refused("bad-body", vault, deadline=61)
    refused("bad-body", vault, password=b"another", deadline=60)
    Rotation(vault).prove(False, appids(vault))
    check(not accept(vault, deadline=60))
    Rotation(vault).expire(NOW + 60)
    check(not accept(vault, deadline=60))
    equal(vault.get("rotation"), None)


def test_one_rotation_at_a_time():
    vault = made()
    check(accept(vault))
    refused("busy", vault, id=2)
    refused("bad-body", vault, id=2, instead=False)
    what = Rotation(vault)
    for part in what.pending():
        what._replace([part])
    check(accept(vault, id=2, password=b"the next one", trust=None, apps=None))


def test_an_older_command():
    vault = made()
    check(accept(vault, id=7, trust=None, apps=None))
    refused("unexpected", vault, id=6)
    Rotation(vault)._replace(["password"])
    refused("unexpected", vault, id=6)


def test_the_largest_command():
    vault = made()
    for size in range(3900, 4001):
        record = len(cbor.encode([1, 1, bytes(32), bytes(size), TRUST, {}, None]))
        if record == 4096:
            refused("bad-body", vault, apps=None, password=bytes(size + 1))
            check(accept(vault, apps=None, password=bytes(size)))
            return
    check(False, "no such size")


def test_parts_that_are_not_proven_stay_pending():
    """Two of three proved themselves: the third is known, and only that."""
    for left in ("password", "trust", "app"):
        vault = made()
        accept(vault)
        what = Rotation(vault)
        what._replace([part for part in what.pending() if not part.startswith(left)])
        again = Rotation(reopened(vault))
        equal((len(again.pending()), again.pending()), (1, what.pending()))
        check(again.pending()[0].startswith(left))


def test_a_proven_part_is_not_replaced_again():
    vault = made()
    accept(vault)
    what = Rotation(vault)
    what.choose("password")
    equal(what.prove(True, []), ["password"])
    equal(what.prove(True, []), [])
    equal(secrets(reopened(vault))[0], PASSWORD)


def test_failures_that_say_nothing_of_the_pins():
    vault = made()
    accept(vault, password=None, apps=None)
    what = Rotation(vault)
    for code in ("unreachable", "link-closed", "link-timeout", "busy"):
        check(what.choose("trust"))
        equal(what.failed(link_failure(code), False), (False, ""))


def keys_only(**changes):
    changes.update({"password": None, "trust": None, "apps": None})
    return changes


def test_release_keys_at_once():
    """They have nothing to prove: what the authority orders is in force, and nothing waits."""
    vault = made()
    check(accept(vault, **keys_only(release=RELEASE)))
    again = reopened(vault)
    equal(records.load(again, "release"), RELEASE)
    equal((again.get("rotation"), again.counter("rotation")), (None, 1))
    check(not accept(again, **keys_only(release=RELEASE)))
    other = RELEASE[:2] + [[b"Q" * 64]]
    check(accept(again, **keys_only(id=2, release=other)))
    equal(records.load(again, "release"), other)
    # An old order played back puts no old key in force again.
    refused("unexpected", again, **keys_only(id=1, release=RELEASE))
    equal(records.load(reopened(again), "release"), other)


def test_one_in_place_of_another():
    """An authority that was restored from a backup does not know what is pending."""
    vault = made()
    old = secrets(vault)
    check(accept(vault))
    check(accept(vault, id=2, password=b"the next one", trust=None, apps=None, instead=True))
    what = Rotation(vault)
    equal((what.pending(), what.password), (["password"], b"the next one"))
    equal(secrets(vault), old)
    check(not accept(vault, id=2, password=b"the next one", trust=None, apps=None, instead=True))
    # Release keys alone leave nothing pending.
    check(accept(vault, **keys_only(id=3, release=RELEASE, instead=True)))
    equal((vault.get("rotation"), secrets(vault)), (None, old))


def test_release_keys_beside_others():
    vault = made()
    old, generation = secrets(vault), vault.generation
    check(accept(vault, release=RELEASE))
    equal((vault.generation, secrets(vault)), (generation + 1, old))
    equal(records.load(vault, "release"), RELEASE)
    equal(len(Rotation(vault).pending()), 3)
    # While the others wait, the next order does, too.
    refused("busy", vault, **keys_only(id=2, release=RELEASE[:2] + [[b"Q" * 64]]))


# -- what is tried -------------------------------------------------------------------------------


def attempts(what, accepts, turns):
    """Return the password of each attempt, what is reported, and whether the next comes soon.

    accepts: the password that the broker accepts: "new", "old" or "neither".
    """
    seen, said, soon = [], [], []
    for _ in range(turns):
        new = what.choose("password")
        seen.append("new" if new else "old")
        if seen[-1] == accepts:
            what.prove(True, [])
        else:
            again, often = what.failed(link_failure("mqtt-refused"), True)
            soon.append(again)
            if often:
                said.append(often)
    return seen, said, soon


def with_password():
    vault = made()
    accept(vault, trust=None, apps=None)
    return vault, Rotation(vault)


def test_the_new_secret_is_tried_first():
    vault, what = with_password()
    equal(attempts(what, "new", 1)[0], ["new"])
    equal((secrets(vault)[0], what.pending(), vault.get("rotation")), (PASSWORD, [], None))


def test_old_and_new_take_turns_after_a_refusal():
    """The broker does not know the new one yet: after three refusals it comes second."""
    vault, what = with_password()
    seen, said, soon = attempts(what, "old", 9)
    equal(seen, ["new", "old", "new", "old", "new", "old", "old", "old", "old"])
    equal(said, ["password"])
    equal(soon, [True, True, True])
    check(vault.get("rotation") is not None)
    # The broker knows the new one at last.
    equal(attempts(what, "new", 2)[0], ["old", "new"])
    equal(secrets(vault)[0], PASSWORD)


def test_no_secret_is_tried_without_a_pause():
    _, what = with_password()
    seen, said, soon = attempts(what, "neither", 8)
    equal(seen, ["new", "old"] * 4)
    # Every second refusal is followed by a long wait.
    equal(soon, [True, False] * 4)
    equal(said, ["password"])


def test_only_a_refusal_changes_the_turn():
    _, what = with_password()
    for code in ("unreachable", "link-closed", "link-timeout", "pin-mismatch", "tls-failed"):
        check(what.choose("password"))
        equal(what.failed(link_failure(code), False), (False, ""))
    check(what.choose("password"))


def test_pins_by_every_refusal_of_a_hand_shake():
    for code in ("pin-mismatch", "certificate-untrusted", "certificate-expired", "tls-failed"):
        vault = made()
        accept(vault, password=None, apps=None)
        what = Rotation(vault)
        check(what.choose("trust"))
        check(not what.choose("password"))
        equal(what.failed(link_failure(code), False), (True, ""))
        check(not what.choose("trust"))
        what.prove(True, [])
        check(vault.get("rotation") is not None)
        check(what.choose("trust"))
        equal(what.prove(True, []), ["trust"])
        equal(secrets(vault)[1], TRUST)


def test_another_application_s_session_proves_nothing():
    vault, what = with_password()
    what.choose("password")
    equal(what.prove(False, appids(vault)), [])
    check(vault.get("rotation") is not None)


def test_a_key_proves_itself_alone():
    vault = made()
    old = secrets(vault)
    accept(vault)
    what = Rotation(vault)
    first = appids(vault)[0]
    equal(what.prove(False, [first]), ["app_" + first])
    equal(secrets(vault), (old[0], old[1], KEY))
    app = records.load(vault, "app_" + first)
    equal(app[1:], records.load(reopened(vault), "app_" + first)[1:])
    equal(sorted(Rotation(reopened(vault)).pending()), ["password", "trust"])
    equal(what.prove(False, [first]), [])


def test_the_deadline():
    vault = made()
    accept(vault, deadline=100)
    what = Rotation(vault)
    equal(what.expire(NOW + 99), [])
    equal(len(what.expire(NOW + 100)), 3)
    equal(secrets(reopened(vault)), (PASSWORD, TRUST, KEY))
    equal(vault.get("rotation"), None)


def test_no_deadline_never_expires():
    vault = made()
    accept(vault)
    equal(Rotation(vault).expire(NOW + 10**9), [])


# -- power cuts --------------------------------------------------------------------------------


def everywhere(before, work):
    """Cut before each change of the store by work(); yield the vaults, the last one uncut."""
    clean = DictStore(before)
    vault = Vault(clean, RootKey())
    vault.open()
    clean.log = []
    work(vault)
    total = len(clean.log)
    check(total > 1)
    for budget in range(total + 1):
        store = DictStore(before)
        vault = Vault(store, RootKey())
        vault.open()
        store.budget = budget
        try:
            work(vault)
            equal(budget, total)
        except PowerCut:
            pass
        store.budget = None
        again = Vault(store, RootKey())
        again.open()
        yield again


def test_cut_while_it_is_prepared():
    vault = made()
    old = secrets(vault)
    found = []
    for again in everywhere(vault.store.files, accept):
        equal(secrets(again), old)
        found.append(again.get("rotation") is not None)
        equal(again.counter("rotation"), 1 if found[-1] else 0)
        # The authority sends it again: it is taken, or known.
        check(accept(again) != found[-1])
    equal(found, sorted(found))
    check(found[-1] and not found[0])
    print("rotate, prepare: %d cuts" % (len(found) - 1))


def test_cut_while_release_keys_change():
    vault = made()
    vault.put("release", cbor.encode(RELEASE[:2] + [[b"Q" * 64]]))
    found = []
    for again in everywhere(vault.store.files, lambda vault: accept(vault, release=RELEASE)):
        found.append(records.load(again, "release") == RELEASE)
        equal(
            (again.get("rotation") is not None, again.counter("rotation")), (found[-1], found[-1])
        )
        if not found[-1]:
            equal(records.load(again, "release")[2], [b"Q" * 64])
    equal(found, sorted(found))
    check(found[-1] and not found[0])


def cut_in_the_middle(name, work):
    vault = made()
    old = secrets(vault)
    accept(vault, deadline=100)
    found = []
    for again in everywhere(vault.store.files, work):
        new = secrets(again)
        waits = again.get("rotation")
        pending = [] if waits is None else Rotation(again).pending()
        # Whatever is not in its place yet is known, and nothing is in both.
        equal("password" in pending, new[0] == old[0])
        equal("trust" in pending, new[1] == old[1])
        equal("app_" + appids(again)[0] in pending, new[2] == old[2])
        check(new[0] in (old[0], PASSWORD) and new[2] in (old[2], KEY))
        found.append(len(pending))
        if waits is not None:
            Rotation(again).expire(NOW + 100)
            equal(secrets(again), (PASSWORD, TRUST, KEY))
    equal(found, sorted(found, reverse=True))
    check(found[0] == 3 and found[-1] < 3)
    print("rotate, %s: %d cuts" % (name, len(found) - 1))


def test_cut_while_it_proves_itself():
    def prove(vault):
        what = Rotation(vault)
        what.choose("password")
        what.choose("trust")
        what.prove(True, appids(vault))

    cut_in_the_middle("prove", prove)


def test_cut_while_one_key_proves_itself():
    cut_in_the_middle("key", lambda vault: Rotation(vault).prove(False, appids(vault)))


def test_cut_at_the_deadline():
    cut_in_the_middle("deadline", lambda vault: Rotation(vault).expire(NOW + 100))


def test_a_full_vault_refuses():
    vault = made()
    old = secrets(vault)
    number = 0
    while len(vault.names()) < 64:
        vault.put("x%d" % number, b"")
        number += 1
    check(isinstance(raises("vault-limit", accept, vault), StoreError))
    equal((secrets(vault), vault.counter("rotation")), (old, 0))


def test_the_live_pin_may_end_later():
    vault = made()
    pins = [LIVE + ending(NOW + 60), NEXT]
    check(accept(vault, trust=[[b"ca"], pins]))
    waiting = Rotation(vault)
    waiting.choose("trust")
    waiting.prove(True, [])
    equal(records.load(reopened(vault), "trust")[1], pins)
