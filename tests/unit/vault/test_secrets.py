"""The application's own secrets: bounded, apart from Warden's records, safe at a power cut."""

from board_model import DictStore, PowerCut, RootKey
from harness import check, equal, raises
from test_bundle import good, refused
from warden.errors import StoreError, UsageError
from warden.provisioning.bundle import install
from warden.rotation.rotation import prepare
from warden.vault import MAX_RECORDS, Vault, records
from warden.vault.rekey import reseal
from warden.vault.secrets import Secrets
from warden.vault.wipe import wipe
from warden.wire import cbor

PURE = True

KEY = b"key of a web service"


def made():
    store = DictStore()
    vault = Vault(store, RootKey())
    install(vault, cbor.encode(good()))
    return store, vault, Secrets(vault)


def opened(store, root=None):
    vault = Vault(store, root or RootKey())
    vault.open()
    return Secrets(vault)


def test_kept_read_and_deleted():
    store, vault, secrets = made()
    equal((secrets.names(), secrets.get("web")), ([], None))
    secrets.set("web", bytearray(KEY))
    secrets.set("empty", b"")
    again = opened(store)
    equal(sorted(again.names()), ["empty", "web"])
    equal((again.get("web"), again.get("empty")), (KEY, b""))
    check(all(KEY not in data for data in store.files.values()))
    again.set("web", b"another")
    equal(opened(store).get("web"), b"another")
    again.delete("web")
    again.delete("never-was")
    equal((opened(store).names(), opened(store).get("web")), (["empty"], None))


def test_each_change_is_one_commit():
    _, vault, secrets = made()
    before = vault.generation
    secrets.set("web", KEY)
    equal(vault.generation, before + 1)
    secrets.set("web", b"another")
    equal(vault.generation, before + 2)
    secrets.delete("web")
    equal(vault.generation, before + 3)


def test_bounds():
    _, vault, secrets = made()
    before = vault.generation
    for name in ("", "a b", "a/b", "é", "x" * 33, None, 1, b"web"):
        for work in (secrets.get, secrets.delete, lambda name: secrets.set(name, b"")):
            check(isinstance(raises("bad-name", work, name), UsageError))
    for value in (b"x" * 1025, bytearray(1025), "text", None, 5, memoryview(b"x"), [1]):
        check(isinstance(raises("bad-argument", secrets.set, "web", value), UsageError))
    equal(vault.generation, before, "nothing was written")
    for number in range(8):
        secrets.set("s%d" % number, bytes(1024))
    check(isinstance(raises("vault-limit", secrets.set, "ninth", b""), StoreError))
    secrets.set("s3", b"an old name still has its place")
    secrets.delete("s4")
    secrets.set("ninth", b"")
    equal(len(secrets.names()), 8)


def test_warden_has_room_beside_all_secrets():
    """Every record of a device: eight applications with their IDs, a rotation, parked orders."""
    bundle = good()
    more = [["app%d" % number, bytes([number]) * 32, False, []] for number in range(6)]
    bundle["apps"] = bundle["apps"] + more
    vault = Vault(DictStore(), RootKey())
    install(vault, cbor.encode(bundle))
    names = ["release", "otp", "slots", "rotation", "parked0", "parked1", "parked2"]
    names += ["uid_" + app.appid for app in records.load_apps(vault)]
    secrets = Secrets(vault)
    for number in range(8):
        secrets.set("s%d" % number, b"")
    vault.commit({name: b"" for name in names})
    equal(len(vault.names()), 6 + 8 + 8 + len(names))
    check(len(vault.names()) <= MAX_RECORDS)


def test_no_record_of_warden_is_reached():
    _, vault, secrets = made()
    for name in vault.names():
        equal(secrets.get(name), None)
        secrets.delete(name)
        check(vault.get(name) is not None, name)
    secrets.set("broker", b"mine")
    equal(records.load(vault, "broker"), good()["broker"])
    equal(secrets.names(), ["broker"])
    # Nor does Warden take one for its own.
    secrets.set("app_evil", cbor.encode([bytes(32), True, []]))
    equal(sorted(app.appid for app in records.load_apps(vault)), ["authority", "home"])


def test_no_bundle_brings_one():
    bundle = good()
    bundle["own_web"] = b"planted"
    refused(bundle)


def test_no_rotation_reaches_one():
    _, vault, secrets = made()
    secrets.set("web", KEY)
    order = {"id": 1, "password": b"new password", "own_web": b"planted"}
    raises("bad-body", prepare, vault, order, bytes(32), 1800000000)
    prepare(vault, {"id": 1, "password": b"new password"}, bytes(32), 1800000000)
    equal(secrets.get("web"), KEY)


def test_cut_at_every_change():
    """The old value or the new one, and the rest of the vault whole."""
    whole, _, secrets = made()
    secrets.set("web", KEY)
    start = dict(whole.files)
    for work, value in (
        (lambda secrets: secrets.set("web", b"another"), b"another"),
        (lambda secrets: secrets.delete("web"), None),
    ):
        seen, budget = [], 0
        while True:
            store = DictStore(start)
            secrets = opened(store)
            store.budget = budget
            try:
                work(secrets)
            except PowerCut:
                pass
            else:
                break
            store.budget = None
            healed = opened(store)
            check(healed.get("web") in (KEY, value))
            seen.append(healed.get("web"))
            budget += 1
        check(KEY in seen and value in seen, "cut on both sides of the commit")
        equal(opened(store).get("web"), value)


def test_a_new_root_key_keeps_them():
    store, vault, secrets = made()
    secrets.set("web", KEY)
    reseal(vault, RootKey(b"n" * 32))
    equal(opened(store, RootKey(b"n" * 32)).get("web"), KEY)


def test_a_wipe_destroys_them():
    store, vault, secrets = made()
    secrets.set("web", KEY)
    wipe(vault)
    equal(store.files, {})
    raises("closed", secrets.get, "web")
    raises("closed", secrets.names)
    install(Vault(store, RootKey()), cbor.encode(good()))
    equal(opened(store).names(), [])
