"""The fleet's certificates: dates older than any clock, pins, and keys that are refused."""

import base64
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from host_kit import new_fleet, refused
from warden_client import secretfile
from warden_host.fleet import client_pki, pki, sealed_pem, tls


@pytest.fixture
def keys(tmp_path):
    pki.create(tmp_path, ("localhost", "127.0.0.1", "broker.example"))
    return tmp_path


def test_the_leaf_is_older_than_any_clock_floor(keys):
    ca = pki.load_ca(keys)
    leaf = pki.load_certificate(keys / "server.crt")
    assert leaf.not_valid_before_utc == ca.certificate.not_valid_before_utc
    assert leaf.not_valid_before_utc == datetime(2020, 1, 1, tzinfo=UTC)
    leaf.verify_directly_issued_by(ca.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "broker.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert not basic.value.ca
    assert len(ca.der()) <= 2048


def test_pins_are_of_the_live_and_the_backup_key(keys):
    live, backup = pki.load_pins(keys)
    assert live != backup
    spki = (
        pki.load_certificate(keys / "server.crt")
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert live == hashlib.sha256(spki).digest()


def test_leaves_to_be_refused_can_be_issued(keys):
    ca = pki.load_ca(keys)
    past = datetime(2021, 1, 1, tzinfo=UTC)
    expired = ca.issue(("localhost",), not_after=past)
    assert expired.certificate.not_valid_after_utc == past
    other = ca.issue(("elsewhere.example",))
    assert pki.pin(other.certificate) not in pki.load_pins(keys)
    same = ca.issue(("a.example",), key=pki.load_key(keys / "server.key"))
    assert pki.pin(same.key) == pki.load_pins(keys)[0]
    future = datetime.now(UTC) + timedelta(days=30)
    assert ca.issue(("a",), not_before=future).certificate.not_valid_before_utc > past


def test_damaged_keys(keys):
    path = keys / "ca.key"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with refused("key-damaged"):
        pki.load_ca(keys)
    for key in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
    ):
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        if isinstance(key, rsa.RSAPrivateKey):
            with refused("key-damaged"):
                pki.load_ca(keys)
    # On an unknown curve: cryptography raises UnsupportedAlgorithm, which is no ValueError.
    known, unknown = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f")
    der = base64.b64decode(b"".join(path.read_bytes().splitlines()[1:-1]))
    assert der.count(known) == 1
    text = base64.encodebytes(der.replace(known, unknown))
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n" + text + b"-----END PRIVATE KEY-----\n")
    with refused("key-damaged"):
        pki.load_ca(keys)
    path.chmod(0o644)
    with refused("key-permissions"):
        pki.load_ca(keys)
    (keys / "server.crt").write_bytes(b"")
    with refused("key-damaged"):
        pki.load_pins(keys)


def test_a_ca_under_a_passphrase(tmp_path, monkeypatch):
    monkeypatch.setattr(sealed_pem, "_N", 1 << 4)
    pki.create(tmp_path, ("localhost",), b"correct horse battery")
    assert pki.is_sealed(tmp_path / "ca.key")
    with refused("passphrase-missing"):
        pki.load_ca(tmp_path)
    with refused("passphrase-wrong"):
        pki.load_ca(tmp_path, passphrase=b"correct horse batter?")
    ca = pki.load_ca(tmp_path, passphrase=b"correct horse battery")
    # What provisioning and serving need does not ask for it.
    assert pki.ca_der(tmp_path) == ca.der()
    assert len(pki.load_pins(tmp_path)) == 2


def test_the_devices_root_issues_one_ca_below_it(tmp_path):
    fleet = new_fleet(tmp_path)
    assert not client_pki.exists(fleet)
    client_pki.create(fleet)
    root = pki.load_ca(fleet.keys, client_pki.ROOT)
    issuer = client_pki.load_issuer(fleet)
    issuer.certificate.verify_directly_issued_by(root.certificate)
    lengths = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        for one in (root.certificate, issuer.certificate)
    ]
    assert lengths == [1, 0]
    assert len(issuer.der()) < 600
    # The list was there before the CA; a second call changes nothing.
    before = (fleet.broker / client_pki.CRL).read_bytes()
    client_pki.create(fleet)
    assert (fleet.broker / client_pki.CRL).read_bytes() == before
    assert client_pki.crl_ends(fleet) > datetime.now(UTC) + timedelta(days=29)
    (fleet.broker / client_pki.CRL).unlink()
    with refused("crl-damaged"):
        client_pki.load_crl(fleet)


def test_a_sealed_key_of_another_kind():
    passphrase = b"correct horse battery"
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
    with refused("key-damaged"):
        sealed_pem.unseal(pem, passphrase)


@pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
def test_a_point_of_another_length(size):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )[1:]
    assert client_pki.point_key(point) == key
    with refused("bad-body"):
        client_pki.point_key((point * 2)[:size])


def test_a_list_that_is_not_what_was_written(tmp_path, monkeypatch):
    fleet = new_fleet(tmp_path)
    client_pki.create(fleet)
    issuer = client_pki.load_issuer(fleet)
    real = secretfile.write
    monkeypatch.setattr(secretfile, "write", lambda path, data: real(path, data[:-1]))
    with refused("crl-damaged"):
        client_pki.write_crl(fleet, client_pki.make_crl(issuer, ()), issuer.certificate)


@pytest.mark.parametrize("damage", [b"no certificate", None])
def test_a_ca_that_the_hosts_clients_can_not_read(tmp_path, damage):
    fleet = new_fleet(tmp_path)
    path = fleet.keys / "ca.crt"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with refused("key-damaged"):
        tls.context(fleet)
