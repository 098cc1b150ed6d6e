"""What an access token may not say, and which tokens are refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from host_kit import refused
from warden_host.protocol import access_token
from warden_host.protocol.access_token import Claims, Scope

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = 1_700_000_000.0
CLAIMS = {
    "iss": access_token.ISSUER,
    "aud": access_token.AUDIENCE,
    "sub": "home",
    "jti": "id",
    "exp": int(NOW) + 60,
    "scope": "read:relay",
}
ORIGIN = "https://home.example"


def signed(**changes: object) -> str:
    claims = CLAIMS | changes
    return access_token.sign(KEY, {name: claims[name] for name in claims if claims[name] != ""})


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("bad-name", {"types": ("a/b",)}),
        ("bad-name", {"commands": ("a/b",)}),
        ("reserved-command", {"commands": ("wipe",)}),
        ("bad-argument", {"origins": ("http://home.example",)}),
        ("bad-argument", {"origins": (ORIGIN,) * (access_token.MOST_ORIGINS + 1)}),
    ],
)
def test_scopes_that_no_token_has(code, changes):
    good = {"types": ("relay",), "read": True, "commands": ("set_relay",), "origins": (ORIGIN,)}
    Scope(**good)
    with refused(code):
        Scope(**good | changes)


def test_a_token_is_verified():
    claims = Claims("home", "id", int(NOW) + 60, frozenset({"read:relay"}))
    assert access_token.verify(KEY.public_key(), signed(), NOW) == claims


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("token-expired", {"exp": int(NOW) - 1}),
        ("token-invalid", {"exp": NOW + 60}),
        ("token-invalid", {"exp": "soon"}),
        ("token-invalid", {"exp": ""}),
        ("token-invalid", {"iss": "other"}),
        ("token-invalid", {"aud": "other"}),
        ("token-invalid", {"aud": ""}),
        ("token-invalid", {"sub": 5}),
        ("token-invalid", {"sub": ""}),
        ("token-invalid", {"jti": ["id"]}),
        ("token-invalid", {"scope": ["read:relay"]}),
        ("token-invalid", {"more": "x" * access_token.MAX_TOKEN}),
    ],
)
def test_tokens_that_are_refused(code, changes):
    with refused(code):
        access_token.verify(KEY.public_key(), signed(**changes), NOW)


def test_a_token_of_another_key():
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    for token in (signed(), "", "a.b.c"):
        with refused("token-invalid"):
            access_token.verify(other, token, NOW)
    assert not access_token.is_signed(other, signed())
    assert access_token.is_signed(KEY.public_key(), signed(exp=1))
