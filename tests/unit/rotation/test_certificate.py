"""A new certificate for a device: whose key it is for, and a power cut at each step."""

import asyncio

from agent_kit import NOW, Rig, provisioned
from board_model import DictStore, PowerCut, RootKey
from harness import check, equal, link_failure, raises
from test_bundle import good
from test_policy import fourth
from test_x509 import certificate, tlv
from warden.errors import PeerError
from warden.net.client_certificate import ClientTrust, end, watch
from warden.rotation.certificate import make_key
from warden.rotation.rotation import Rotation, prepare
from warden.vault import Vault, records

AFTER = 2587679999  # the end of test_x509's certificates
LEAF, CA = certificate(), certificate(serial=tlv(2, b"\6"))
OLD = [LEAF, CA, b"o" * 121]
NEW = [certificate(serial=tlv(2, b"\7")), CA, b"n" * 121]


def bundle(auth="certificate"):

    fields = good()
    fields["policy"] = fourth(auth=auth)
    fields["certificate"] = OLD
    return fields


def made():
    return provisioned(bundle())


def reopened(vault):
    again = Vault(vault.store, RootKey())
    again.open()
    return again


def for_key(public):
    """A certificate for x ‖ y."""
    point = tlv(3, b"\0\4" + public)
    return certificate(spki=tlv(0x30, tlv(0x30, tlv(6, b"\x2a")), point))


def order(vault, new=NEW, id=1):
    return prepare(vault, {"id": id, "certificate": new}, b"", NOW)


def kept(vault):
    return records.load(vault, "certificate")


def test_the_bundle_and_the_policy_agree():
    equal(kept(made()), OLD)
    equal(kept(provisioned(bundle("certificate"))), OLD)
    fields = bundle()
    del fields["certificate"]
    raises("bad-bundle", provisioned, fields)
    fields = good()
    fields["certificate"] = OLD
    raises("bad-bundle", provisioned, fields)
    for bad in ([], OLD[:2], [LEAF, CA, b"k" * 31], [b"no", CA, OLD[2]], [LEAF, b"", OLD[2]], 1):
        fields = bundle()
        fields["certificate"] = bad
        raises("bad-bundle", provisioned, fields)


def test_a_new_one_waits_beside_the_old():
    vault = made()
    check(order(vault))
    equal(kept(vault), OLD)
    what = Rotation(reopened(vault))
    equal((what.certificate, what.pending()), (NEW, ["certificate"]))
    check(not order(vault))  # the same command again
    # Proven by the authority's session on a connection that was made with it.
    equal(what.prove(True, []), [])
    check(what.choose("certificate"))
    equal(what.prove(False, []), [])
    equal(what.prove(True, []), ["certificate"])
    equal((kept(reopened(vault)), reopened(vault).get("rotation")), (NEW, None))


def test_old_and_new_take_turns():
    vault = made()
    order(vault)
    what = Rotation(vault)
    used = []
    for _ in range(8):
        used.append(what.choose("certificate"))
        # A stack that tells no alert calls it a closed connection.
        what.failed(link_failure("link-closed"), True)
    equal(used, [True, False, True, False, True, False, True, False])
    # Before the server's key was seen it says nothing of the certificate.
    what = Rotation(vault)
    for _ in range(3):
        check(what.choose("certificate"))
        equal(what.failed(link_failure("link-closed"), False), (False, ""))


def test_a_key_that_is_made_here():
    vault = made()
    public = bytes.fromhex(make_key(vault)["key"])
    equal(len(public), 64)
    equal(make_key(vault)["key"], public.hex())  # the reply was lost
    record = vault.get("certificate_key")
    for wrong in (for_key(public[:63] + bytes((public[63] ^ 1,))), LEAF, b"no"):
        raises("bad-body", order, vault, [wrong, CA, None])
    equal(vault.get("certificate_key"), record)
    check(order(vault, [for_key(public), CA, None]))
    check(vault.get("certificate_key") is None)
    leaf, ca, key = Rotation(vault).certificate
    equal((leaf, ca), (for_key(public), CA))
    check(record[64:] in key)
    # It is used once.
    what = Rotation(vault)
    what._replace(["certificate"])
    raises("bad-body", order, vault, [for_key(public), CA, None], 2)


def test_what_is_refused():
    plain = provisioned()
    raises("bad-body", order, plain)
    raises("bad-body", make_key, plain)
    vault = made()
    for bad in ([], OLD[:2], [LEAF, CA, None], [LEAF, CA, b"short"], [LEAF, b"no", OLD[2]], "key"):
        raises("bad-body", order, vault, bad)
    check(isinstance(raises("bad-body", order, vault, 1), PeerError))
    equal(vault.get("rotation"), None)


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
        yield reopened(vault)


def test_cut_at_each_step():
    cuts = 0
    vault = made()
    before = dict(vault.store.files)
    for again in everywhere(before, make_key):
        cuts += 1
        equal(kept(again), OLD)
        public = bytes.fromhex(make_key(again)["key"])  # asked for once more
    before = dict(again.store.files)
    new = [for_key(public), CA, None]
    taken = []
    for again in everywhere(before, lambda vault: order(vault, new)):
        cuts += 1
        equal(kept(again), OLD)
        taken.append(again.get("rotation") is not None)
        # Never neither: the key waits for its certificate, or has it.
        equal(again.get("certificate_key") is None, taken[-1])
        equal(order(again, new), not taken[-1])
    check(taken[-1] and not taken[0])
    before = dict(again.store.files)
    proven = []
    for again in everywhere(before, lambda vault: Rotation(vault)._replace(["certificate"])):
        cuts += 1
        proven.append(kept(again) != OLD)
        equal(again.get("rotation") is None, proven[-1])
        if not proven[-1]:
            equal(Rotation(again).certificate[0], new[0])
    check(proven[-1] and not proven[0])
    print("certificate: %d cuts" % cuts)


class Context:
    def __init__(self):
        self.loaded = []

    def load_verify_locations(self, ca):
        self.loaded.append(ca)

    def load_cert_chain(self, certificate, key):
        self.loaded.append((certificate, key))


def test_what_the_tls_stack_is_given():
    vault = made()
    cas, pins = [b"ca"], [bytes(32), b"P" * 32]
    context = Context()
    ClientTrust(cas, pins, vault).load(context)
    equal(context.loaded, [b"ca", (LEAF, OLD[2]), (CA, OLD[2])])
    context = Context()
    ClientTrust(cas, pins, vault, NEW).load(context)
    equal(context.loaded[1], (NEW[0], NEW[2]))
    vault.delete("certificate")
    raises("own-certificate-missing", ClientTrust(cas, pins, vault).load, context)


def test_why_the_server_refused():
    trust = ClientTrust([b"ca"], [bytes(32), b"P" * 32], made())
    equal(end(OLD), AFTER)
    for code, now, alert, told in (
        ("link-closed", NOW, 0, "link-closed"),
        ("tls-failed", NOW, 51, "tls-failed"),
        ("unreachable", AFTER + 1, 45, "unreachable"),
        ("link-closed", NOW, 44, "own-certificate-refused"),
        ("tls-failed", NOW, 48, "own-certificate-refused"),
        ("link-closed", NOW, 45, "own-certificate-expired"),
        ("link-closed", AFTER + 1, 0, "own-certificate-expired"),
        ("tls-failed", AFTER + 1, 42, "own-certificate-expired"),
    ):
        equal(trust.refused(code, now, alert), told)


def test_its_end_is_reported_in_time():
    async def days_left(days):
        rig = Rig(made())
        rig.clock.time = AFTER - days * 86400
        rig.agent.clock.start()
        rig.agent.session_up.set()
        task = asyncio.create_task(watch(rig.agent))
        await asyncio.sleep_ms(0)
        task.cancel()
        return [line for line in rig.logged if line[0] == "own-certificate-expires"]

    equal(asyncio.run(days_left(31)), [])
    equal(asyncio.run(days_left(29)), [("own-certificate-expires", "in 29 days")])
    equal(len(asyncio.run(days_left(-1))), 1)


def test_the_agent_uses_it():
    rig = Rig(made())
    check(isinstance(rig.agent.trust, ClientTrust))
    equal(rig.agent.client.user, None)
    check(not isinstance(Rig(provisioned()).agent.trust, ClientTrust))
