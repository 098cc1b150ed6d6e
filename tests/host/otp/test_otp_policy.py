"""The policy record's versions 2 to 4: the gate, `strict`, `development`, the connection."""

import cbor2
import pytest
from host_kit import canonical, refused
from warden_client.protocol import strictcbor
from warden_host.protocol import policy

V1 = cbor2.loads(policy.record())
V2 = cbor2.loads(policy.record(strict=True))
GATE = policy.otp()


def test_a_policy_without_new_keys_keeps_version_1():
    plain = policy.record(strict=False, otp=None)
    assert plain == policy.record()
    assert cbor2.loads(plain)["v"] == 1
    assert policy.gate(plain) is None


def test_version_2_adds_exactly_two_keys():
    both = policy.record(strict=True, otp=policy.otp(source="totp", digits=8))
    assert cbor2.loads(both) == V1 | {
        "v": 2,
        "strict": True,
        "otp": GATE | {"source": "totp", "digits": 8},
    }
    assert both == canonical(cbor2.loads(both))
    assert policy.gate(both) == GATE | {"source": "totp", "digits": 8}
    assert policy.parse(policy.record(otp=GATE))["strict"] is False
    assert policy.gate(policy.record(strict=True)) is None


def test_version_3_adds_development_alone():
    allowed = policy.record(development=True)
    assert cbor2.loads(allowed) == V1 | {
        "v": 3,
        "strict": False,
        "otp": None,
        "development": True,
    }
    both = policy.record(development=True, otp=GATE)
    assert policy.gate(both) == GATE and policy.parse(both)["development"] is True
    assert policy.record(development=False) == policy.record()
    third = cbor2.loads(allowed)
    for wrong in ({"development": 1}, {"v": 2}, {"v": 4}, {"strict": None}):
        with refused("bad-policy"):
            policy.parse(strictcbor.encode(third | wrong))
    with refused("bad-policy"):
        policy.parse(strictcbor.encode(V2 | {"v": 3}))


def test_version_4_adds_the_terms_of_the_connection():
    terms = {
        "auth": "password",
        "tls": True,
        "outbox": 8,
        "outbox_keep": "connection",
        "outbox_drop": "oldest",
    }
    data = policy.record(outbox=8)
    assert cbor2.loads(data) == V1 | terms | {
        "v": 4,
        "strict": False,
        "otp": None,
        "development": False,
    }
    assert policy.connection(data) == terms
    assert policy.connection(policy.record()) == terms | {"outbox": 0}
    assert policy.record(**terms | {"outbox": 0}) == policy.record()
    assert policy.parse(policy.record(tls=False))["v"] == 4
    for auth in policy.AUTH[1:]:
        assert policy.connection(policy.record(auth=auth))["auth"] == auth
    widest = policy.record(auth="certificate", outbox=64, otp=GATE, strict=True, development=True)
    assert len(widest) <= 512
    fourth = cbor2.loads(data)
    for key in terms:
        with refused("bad-policy"):
            policy.parse(strictcbor.encode({k: v for k, v in fourth.items() if k != key}))
        for value in (65, -1, None, "", "sms", [], {}):
            with refused("bad-policy"):
                policy.parse(strictcbor.encode(fourth | {key: value}))
    for alike in ({"tls": 1}, {"outbox": False}):
        with refused("bad-policy"):
            policy.parse(strictcbor.encode(fourth | alike))


@pytest.mark.parametrize("change", [{"mode": "plain"}, {"auth": "token"}, {"auth": "certificate"}])
def test_without_tls_only_sealed_messages_and_a_password(change):
    with refused("bad-policy"):
        policy.record(tls=False, **change)


def test_the_gate_has_the_documented_keys_and_no_others():
    assert GATE == {
        "source": "authority",
        "digits": 6,
        "validity_s": 300,
        "idle_s": 60,
        "retries": 3,
        "lock_s": 60,
        "before": "nothing",
        "unlock": True,
        "duress": False,
    }
    for key in GATE:
        lacking = {name: value for name, value in GATE.items() if name != key}
        with refused("bad-policy"):
            policy.parse(strictcbor.encode(V2 | {"otp": lacking}))
    with refused("bad-policy"):
        policy.parse(strictcbor.encode(V2 | {"otp": GATE | {"extra": 1}}))


@pytest.mark.parametrize("changes", [{"v": 1}, {"v": 3}, {"v": True}, {"v": "2"}, {"strict": 1}])
def test_a_record_of_two_minds(changes):
    with refused("bad-policy"):
        policy.parse(strictcbor.encode(V2 | changes))


def test_version_2_with_the_keys_of_version_1():
    with refused("bad-policy"):
        policy.parse(strictcbor.encode(V1 | {"v": 2}))
    with refused("bad-policy"):
        policy.parse(strictcbor.encode({key: V2[key] for key in V2 if key != "v"}))


@pytest.mark.parametrize("gate", [0, False, [], "authority", {}])
def test_a_gate_that_is_no_map(gate):
    with refused("bad-policy"):
        policy.parse(strictcbor.encode(V2 | {"otp": gate}))


@pytest.mark.parametrize(("key", "bounds"), policy.OTP_BOUNDS.items())
def test_numbers_lie_within_their_bounds(key, bounds):
    low, high = bounds
    for value in (low, high):
        assert policy.otp(**{key: value})[key] == value
    for value in (low - 1, high + 1, True, float(low), str(low), None):
        with refused("bad-policy"):
            policy.otp(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("source", "sms"), ("source", None), ("before", "all"), ("unlock", 1), ("duress", "true")],
)
def test_words_and_switches(key, value):
    with refused("bad-policy"):
        policy.otp(**{key: value})


def test_it_fits_into_what_a_device_reads():
    widest = {key: high for key, (_, high) in policy.OTP_BOUNDS.items()}
    assert len(policy.record(strict=True, otp=policy.otp(**widest))) <= 512
