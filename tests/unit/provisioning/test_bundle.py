"""The provisioning bundle: whatever is wrong with it, nothing reaches the flash."""

from board_model import DictStore, PowerCut, RootKey
from gate_kit import TERMS
from harness import check, equal, has_text, raises
from test_policy import DEFAULT, fourth
from test_x509 import certificate, tlv
from warden.crypto.p256_key import key_der
from warden.errors import StoreError, UsageError
from warden.provisioning.bundle import MAX_BUNDLE, install
from warden.vault import Vault, records
from warden.wire import cbor

PURE = True

POLICY = cbor.encode(DEFAULT)
KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))


def good():
    """A new one each time: tests bend it."""
    return {
        "v": 1,
        "identity": ["lamp", "lamp-1"],
        "broker": ["broker.example", 8883, b"d:lamp:lamp-1", b"secret \x00\xff", "d:lamp:lamp-1"],
        "trust": [[b"certificate"], [bytes(32), bytes(31) + b"1"]],
        "policy": POLICY,
        "apps": [["home", KEY, False, ["set_relay", "blink"]], ["authority", OTHER_KEY, True, []]],
        "network": ["garden", b"password"],
    }


def refused(bundle, code="bad-bundle"):
    """The bundle is refused, and neither the store nor the root key was touched."""
    store, root = DictStore(), RootKey()
    data = bundle if isinstance(bundle, bytes) else cbor.encode(bundle)
    error = raises(code, install, Vault(store, root), data)
    equal((store.log, store.files, root.created), ([], {}, 0))
    check(isinstance(error, UsageError))
    for secret in ("secret", "password"):
        check(secret not in str(error))


def bent(path, value):
    """The good bundle with one thing in it replaced."""
    bundle = good()
    place = bundle
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return bundle


def test_a_good_one():
    store = DictStore()
    install(Vault(store, RootKey()), cbor.encode(good()))
    vault = Vault(store, RootKey())
    vault.open()
    equal(vault.generation, 1)
    for name in ("identity", "broker", "trust"):
        equal(records.load(vault, name), good()[name])
    equal(records.load_networks(vault), [good()["network"]])
    equal(vault.get("policy"), POLICY)
    equal(len(vault.get("nonce")), 32)
    apps = records.load_apps(vault)
    equal(
        [(a.appid, a.key, a.authority, a.commands) for a in apps][0],
        ("authority", OTHER_KEY, True, ()),
    )
    equal(
        (apps[1].appid, apps[1].key, apps[1].authority, apps[1].commands),
        ("home", KEY, False, ("set_relay", "blink")),
    )
    equal(len(vault.names()), 8)


def test_release_keys():
    """Optional: a device without them takes no updates."""
    release = [bytes(16), bytes(range(16)), [bytes(64), bytes(384)]]
    store = DictStore()
    bundle = good()
    bundle["release"] = release
    install(Vault(store, RootKey()), cbor.encode(bundle))
    vault = Vault(store, RootKey())
    vault.open()
    equal(records.load(vault, "release"), release)
    for wrong in (
        None,
        [bytes(15), bytes(16), [bytes(64)]],
        [bytes(16), bytes(17), [bytes(64)]],
        [bytes(16), bytes(16), []],
        [bytes(16), bytes(16), [bytes(64)] * 5],
        [bytes(16), bytes(16), [bytes(65)]],
        [bytes(16), bytes(16), ["x" * 64]],
        [bytes(16), bytes(16)],
    ):
        bundle["release"] = wrong
        refused(bundle)


def gated(otp=None, **terms):
    """A bundle whose policy has a gate."""
    bundle, policy, whole = good(), dict(DEFAULT), dict(TERMS)
    whole.update(terms)
    policy.update({"v": 2, "strict": False, "otp": whole})
    bundle["policy"] = cbor.encode(policy)
    if otp is not None:
        bundle["otp"] = otp
    return bundle


SEED, OTHER_SEED = b"1" * 20, b"2" * 20


def test_what_makes_passwords():
    for otp, terms in (
        (None, {}),  # the authority makes them
        ([None, 6, 0, None], {}),
        ([SEED, 6, 0, None], {"source": "hotp"}),
        ([SEED, 6, 0, None, "sha1"], {"source": "hotp"}),
        ([SEED, 8, 30, OTHER_SEED, "sha256"], {"source": "totp", "digits": 8, "duress": True}),
        ([b"3" * 64, 10, 60, SEED], {"source": "totp", "digits": 10}),
        ([SEED, 6, 0, None, "sha1", 0], {"source": "hotp"}),
        ([SEED, 6, 0, OTHER_SEED, "sha1", 5], {"source": "hotp"}),
    ):
        store = DictStore()
        install(Vault(store, RootKey()), cbor.encode(gated(otp, **terms)))
        vault = Vault(store, RootKey())
        vault.open()
        equal(vault.get("otp"), None if otp is None else cbor.encode(otp[:5]))
        first = 5 if otp is not None and otp[-1] == 5 else 0
        equal((vault.counter("otp_step"), vault.counter("otp_duress")), (first, first))
    for wrong in (
        [SEED[1:], 6, 0, None],
        [bytes(65), 6, 0, None],
        ["1" * 20, 6, 0, None],
        [SEED, 5, 0, None],
        [SEED, 11, 0, None],
        [SEED, True, 0, None],
        [SEED, 6, 29, None],
        [SEED, 6, 61, None],
        [SEED, 6, False, None],
        [SEED, 6, None, None],
        [SEED, 6, 0, SEED],  # it could not be told from the right one
        [SEED, 6, 0, bytes(19)],
        [SEED, 6, 0, bytes(65)],
        [SEED, 6, 0, False],
        [SEED, 6, 0],
        [SEED, 6, 0, None, "md5"],
        [SEED, 6, 0, None, None],
        [SEED, 6, 0, None, None, 0],
        [SEED, 6, 0, None, "sha1", -1],
        [SEED, 6, 0, None, "sha1", 1 << 32],
        [SEED, 6, 0, None, "sha1", None],
        [SEED, 6, 0, None, "sha1", True],
        [SEED, 6, 0, None, "sha1", 0, 0],
        None,
        SEED,
    ):
        bundle = good()
        bundle["otp"] = wrong
        refused(bundle)


def test_a_gate_that_nothing_could_open():
    for otp, terms in (
        (None, {"source": "hotp"}),
        (None, {"source": "totp"}),
        ([None, 6, 0, None], {"source": "hotp"}),
        ([SEED, 6, 30, None], {"source": "hotp"}),
        ([SEED, 6, 0, None], {"source": "totp"}),
        ([SEED, 7, 0, None], {"source": "hotp"}),
        ([SEED, 6, 0, None], {"source": "hotp", "duress": True}),
    ):
        refused(gated(otp, **terms))
    refused(gated(digits=5), "bad-policy")


def test_each_device_makes_its_own_nonce_key():
    keys = []
    for _ in range(2):
        store = DictStore()
        vault = Vault(store, RootKey())
        install(vault, cbor.encode(good()))
        keys.append(vault.get("nonce"))
    check(keys[0] != keys[1])


def test_no_network():
    store = DictStore()
    vault = Vault(store, RootKey())
    install(vault, cbor.encode(bent(["network"], None)))
    equal(records.load_networks(vault), [])


def test_several_brokers():
    own = good()["broker"][:2]
    two = [own + [0], ["other.example", 8884, 3]]
    store = DictStore()
    install(Vault(store, RootKey()), cbor.encode(bent(["brokers"], two)))
    vault = Vault(store, RootKey())
    vault.open()
    equal(records.load(vault, "brokers"), [1, two])
    eight = [own + [100]] + [["h%d" % at, 65535, 0] for at in range(7)]
    install(Vault(DictStore(), RootKey()), cbor.encode(bent(["brokers"], eight)))
    for wrong in (
        None,
        [],
        two[:1],
        eight + [["h8", 1, 0]],
        two[1:] + two[:1],  # the first one is that of `broker`
        two + two[1:],
        [own + [0], ["other.example", 8884]],
        [own + [0], ["", 8884, 0]],
        [own + [0], ["h" * 254, 8884, 0]],
        [own + [0], [b"h", 8884, 0]],
        [own + [0], ["h", 0, 0]],
        [own + [0], ["h", 65536, 0]],
        [own + [0], ["h", 1, -1]],
        [own + [0], ["h", 1, 101]],
        [own + [0], ["h", 1, True]],
    ):
        refused(bent(["brokers"], wrong))


def test_a_choice_of_log_ins():
    """Each broker is listed with a way, and both ways are there."""
    fields = good()
    own = fields["broker"][:2]
    fields["policy"] = fourth(auth="certificate-or-password")
    fields["certificate"] = [certificate(), certificate(), bytes(32)]
    refused(fields)  # without the list
    two = [own + [0, "certificate"], [own[0], 8883, 0, "password"]]
    fields["brokers"] = two
    vault = Vault(DictStore(), RootKey())
    install(vault, cbor.encode(fields))
    equal(records.load(vault, "brokers"), [2, two])
    for wrong in (
        [one[:3] for one in two],
        [two[0], two[1][:3] + ["token"]],
        [two[0], two[1][:3] + ["certificate"]],
        [two[0], two[1][:3] + [1]],
        [two[0], two[1] + [0]],
        two + two[1:],
    ):
        fields["brokers"] = wrong
        refused(fields)
    refused(bent(["brokers"], two))  # of a device without a choice
    # Both at once need no list, and both are there.
    fields["policy"] = fourth(auth="certificate-and-password")
    del fields["brokers"]
    install(Vault(DictStore(), RootKey()), cbor.encode(fields))
    for auth in ("certificate-and-token", "password", "token"):
        fields["policy"] = fourth(auth=auth)
        refused(fields)
    del fields["certificate"]
    fields["policy"] = fourth(auth="certificate-and-password")
    refused(fields)


def test_a_key_that_was_made_here():
    """The bundle has null in its place, and a certificate for that key alone is taken."""
    d, public = bytes(range(1, 33)), bytes(range(64))
    for_it = certificate(spki=tlv(0x30, tlv(0x30, tlv(6, b"\x2a")), tlv(3, b"\0\4" + public)))
    fields = good()
    fields["policy"] = fourth(auth="certificate")
    fields["certificate"] = [for_it, certificate(), None]
    refused(fields)  # none was made
    vault = Vault(DictStore(), RootKey())
    install(vault, cbor.encode(fields), False, [d, public])
    equal(records.load(vault, "certificate"), [for_it, certificate(), key_der(d)])
    for wrong in (
        [certificate(), certificate(), None],
        [for_it, certificate(), d],
        [for_it, certificate()],
        None,
    ):
        fields["certificate"] = wrong
        store = DictStore()
        raises(
            "bad-bundle", install, Vault(store, RootKey()), cbor.encode(fields), False, [d, public]
        )
        equal(store.files, {})


def test_several_networks():
    eight = [["n%d" % i, bytes(i)] for i in range(8)]
    for networks in ([["garden", b""]], [["garden", b"x" * 64], ["\u00fc" * 16, b""]], eight):
        vault = Vault(DictStore(), RootKey())
        install(vault, cbor.encode(bent(["network"], networks)))
        equal(records.load_networks(vault), networks)
    for wrong in (
        [],
        {},
        "garden",
        ["garden"],
        ["garden", b"", b""],
        [["garden", b""], ["garden", b"other"]],
        [["", b""]],
        [["\u00fc" * 17, b""]],  # 34 bytes
        [["garden", "text"]],
        [["garden", None]],
        [["garden", bytes(65)]],
        [b"garden", b""],
        eight + [["n8", b""]],
    ):
        refused(bent(["network"], wrong))


def test_a_vault_of_a_former_version():
    """It holds one network, without a list around it."""
    vault = Vault(DictStore(), RootKey())
    install(vault, cbor.encode(good()))
    vault.put("network", cbor.encode(["garden", b"password"]))
    equal(records.load_networks(vault), [["garden", b"password"]])


def test_limits_that_are_still_good():
    bundle = good()
    bundle["broker"] = ["h" * 253, 65535, b"", b"", "c" * 128]
    bundle["trust"] = [[bytes(900)] * 4, [bytes(31) + bytes((i,)) for i in range(6)]]
    bundle["apps"] = [
        ["a%d" % i + "n" * 30, KEY, i == 3, ["c%02d" % n + "x" * 29 for n in range(32)]]
        for i in range(8)
    ]
    bundle["network"] = ["s" * 32, bytes(64)]
    vault = Vault(DictStore(), RootKey())
    install(vault, cbor.encode(bundle))
    equal(len(records.load_apps(vault)), 8)
    bundle["broker"][1] = 1
    bundle["trust"] = [[bytes(2048)], [bytes(32), bytes(31) + b"1"]]
    install(Vault(DictStore(), RootKey()), cbor.encode(bundle))


def test_a_key_missing_or_another_in_its_place():
    for key in good():
        bundle = good()
        value = bundle.pop(key)
        refused(bundle)
        bundle["other"] = value
        refused(bundle)


def test_a_key_too_many():
    bundle = good()
    bundle["other"] = 1
    refused(bundle)


def test_not_a_bundle():
    whole = cbor.encode(good())
    for data in (
        b"",
        b"\xa0",
        b"\x80",
        b"\xf6",
        b"\x01",
        whole[:-1],
        whole + b"\0",
        b"\xff" * 100,
    ):
        refused(data)
    refused(bytes(MAX_BUNDLE + 1))
    vault = Vault(DictStore(), RootKey())
    has_text(raises("bad-bundle", install, vault, bytes(MAX_BUNDLE + 1)), "large")
    for cut in range(0, len(whole), 7):
        refused(whole[:cut])


def test_wrong_values():
    wrong_everywhere = (
        None,
        True,
        False,
        0,
        1 << 33,
        -1,
        1.5,
        "",
        b"",
        [],
        {},
        ["x"],
        "x" * 300,
        bytes(5000),
    )
    for path in (
        ["v"],
        ["identity"],
        ["broker"],
        ["trust"],
        ["apps"],
        ["identity", 0],
        ["identity", 1],
        ["broker", 0],
        ["broker", 1],
        ["broker", 2],
        ["broker", 3],
        ["broker", 4],
        ["trust", 0],
        ["trust", 1],
        ["trust", 0, 0],
        ["trust", 1, 1],
        ["apps", 0],
        ["apps", 0, 0],
        ["apps", 0, 1],
        ["apps", 0, 2],
        ["apps", 0, 3],
        ["apps", 0, 3, 1],
        ["network", 0],
        ["network", 1],
    ):
        for value in wrong_everywhere:
            # Good by chance: no user name, no password, an application without commands.
            empty = isinstance(value, (bytes, list)) and not value
            if empty and path in (["broker", 2], ["broker", 3], ["network", 1], ["apps", 0, 3]):
                if isinstance(value, list) == (path[0] == "apps"):
                    continue
            if path == ["apps", 0, 3] and isinstance(value, list):
                continue
            if path == ["apps", 0, 2] and value is False:
                continue
            refused(bent(path, value))
    for value in (True, False, 0, "", b"", [], {}, ["garden"], ["garden", b"x", 1], "garden"):
        refused(bent(["network"], value))


def test_names_and_their_alphabets():
    for name in ("a.b", "a/b", "a b", "ä", "a+", "a#", "n" * 33, "a\0"):
        refused(bent(["identity", 0], name))
        refused(bent(["identity", 1], name))
        refused(bent(["apps", 0, 0], name))
        refused(bent(["apps", 0, 3, 0], name))
    for command in ("Set", "set-relay"):
        refused(bent(["apps", 0, 3, 0], command))


def test_numbers_just_outside():
    for port in (0, 65536, -1):
        refused(bent(["broker", 1], port))
    refused(bent(["broker", 0], "h" * 254))
    refused(bent(["broker", 4], "c" * 129))
    refused(bent(["broker", 2], bytes(4001)))
    refused(bent(["broker", 3], bytes(4001)))
    refused(bent(["network", 0], "s" * 33))
    refused(bent(["network", 1], bytes(65)))
    refused(bent(["trust", 0], [b"x"] * 5))
    refused(bent(["trust", 0], []))
    refused(bent(["trust", 0, 0], bytes(2049)))
    pins = [bytes(31) + bytes((i,)) for i in range(7)]
    refused(bent(["trust", 1], pins))
    refused(bent(["trust", 1], pins[:1]))
    for size in (31, 33):
        refused(bent(["trust", 1, 0], bytes(size)))
        refused(bent(["apps", 0, 1], bytes(size)))
    refused(bent(["apps", 0, 3], ["c%d" % i for i in range(33)]))
    refused(bent(["apps"], []))
    refused(bent(["apps"], [["a%d" % i, KEY, i == 0, []] for i in range(9)]))


def test_a_backup_pin_that_is_the_same_pin():
    refused(bent(["trust", 1], [bytes(32), bytes(32)]))


def test_records_larger_than_the_vault_takes():
    refused(bent(["trust", 0], [bytes(2048)] * 2))
    bundle = bent(["broker", 2], bytes(4000))
    bundle["broker"][3] = bytes(4000)
    refused(bundle)


def test_exactly_one_authority():
    refused(bent(["apps", 0, 2], True))
    refused(bent(["apps", 1, 2], False))


def test_an_application_twice():
    bundle = good()
    bundle["apps"].append(["home", OTHER_KEY, False, []])
    refused(bundle)


def test_a_bad_policy():
    for policy in (
        b"",
        POLICY[:-1],
        POLICY + b"\0",
        bytes(600),
        cbor.encode(dict(DEFAULT, mode="open")),
    ):
        refused(bent(["policy"], policy), "bad-policy")
    for policy in (None, "text", [], 1, {}):
        refused(bent(["policy"], policy))


def test_a_device_that_has_a_vault():
    store = DictStore()
    install(Vault(store, RootKey()), cbor.encode(good()))
    files, root = dict(store.files), RootKey()
    check(
        isinstance(
            raises("already-provisioned", install, Vault(store, root), cbor.encode(good())),
            StoreError,
        )
    )
    equal((store.files, root.created), (files, 0))


def test_interrupted_anywhere_it_is_not_provisioned_and_can_be_done_again():
    clean = DictStore()
    install(Vault(clean, RootKey()), cbor.encode(good()))
    for budget in range(len(clean.log)):
        store = DictStore()
        store.budget = budget
        try:
            install(Vault(store, RootKey()), cbor.encode(good()))
            check(False, "not cut")
        except PowerCut:
            pass
        store.budget = None
        raises("not-provisioned", Vault(store, RootKey()).open)
        vault = Vault(store, RootKey())
        install(vault, cbor.encode(good()))
        equal(len(store.names()), 10)
