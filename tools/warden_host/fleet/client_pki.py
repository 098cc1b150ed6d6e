"""The certificates of devices: a root, the CA below it that issues them, and its revocation list.

keys/devices-root.key, .crt   the root, which the broker trusts; needed only to issue another CA
keys/devices-ca.key, .crt     issues the devices' certificates and signs the revocation list
keys/authority.pem            the authority's own certificate and key, for brokers that want one
broker/devices.crl            the revocation list (RFC 5280 §5), read by the broker

No certificate of the server's CA (fleet/pki.py) can log in, and none of this one can be a server.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from warden_client import secretfile
from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet

ROOT, ISSUER = "devices-root", "devices-ca"
CRL = "devices.crl"
OWN = "authority.pem"
_OWN_NAME = "warden-authority"
DEFAULT_DAYS = 365
MIN_DAYS, MAX_DAYS = 1, 3650
WARN_S = 30 * 86400  # before an end that is said loudly
# The broker refuses every certificate behind the list's end; a week is left of it at each renewal.
_MAX_CRL = 8 << 20  # 200,000 entries
CRL_LIFE = timedelta(days=30)
CRL_RENEWED_BEFORE = timedelta(days=23)
# A broker or a device whose clock is behind takes a new certificate and a new list all the same.
_SKEW = timedelta(days=1)
_MAX_NAME = 64  # characters of a common name (RFC 5280, appendix A.1, ub-common-name)
RSA_BITS = 2048
KINDS = ("ec", "rsa")
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Revoked(NamedTuple):
    """A serial number on the revocation list. moment: unix seconds."""

    serial: int
    moment: float


def exists(fleet: Fleet) -> bool:
    """Return whether this fleet issues certificates to devices."""
    return (fleet.keys / f"{ISSUER}.crt").is_file()


def check_exists(fleet: Fleet) -> None:
    """Raise key-missing where this fleet issues no certificates to devices."""
    if not exists(fleet):
        raise HostError(
            "key-missing",
            "warden.toml or a device asks for certificates, and this fleet issues none",
            "`warden cert init` makes the keys for it",
        )


def create(fleet: Fleet, passphrase: bytes | None = None) -> None:
    """Make the root, the issuing CA and an empty revocation list; keep what is there already.

    passphrase: of the root's key; None for a test fleet, whose key is not encrypted.
    """
    if exists(fleet):
        if not has_own(fleet) and not pki.is_sealed(fleet.keys / f"{ISSUER}.key"):
            write_own(fleet, load_issuer(fleet))
        return
    root = pki.new_ca("Warden device root", path_length=1)
    issuer = pki.new_ca("Warden device CA", root, crl_sign=True)
    pki.write_ca(fleet.keys, ROOT, root, passphrase)
    write_crl(fleet, make_crl(issuer, ()), issuer.certificate)
    write_own(fleet, issuer)
    # The certificate of the CA last: it says that all is there.
    pki.write_ca(fleet.keys, ISSUER, issuer, None)


def has_own(fleet: Fleet) -> bool:
    """Return whether the authority has a certificate of its own."""
    return (fleet.keys / OWN).is_file()


def write_own(fleet: Fleet, ca: pki.CertificateAuthority) -> None:
    """Issue the authority's own certificate: certificate, CA and key in one file.

    For a broker that takes no connection without one. No account has its name.
    """
    key = new_key("ec")
    leaf = issue(ca, _OWN_NAME, key.public_key(), timedelta(days=MAX_DAYS))
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secretfile.write(fleet.keys / OWN, leaf.public_bytes(pem) + ca.pem() + secret)


def issuer_certificate(fleet: Fleet) -> x509.Certificate:
    """Return the issuing CA's certificate; raises key-missing, key-damaged."""
    return pki.load_certificate(fleet.keys / f"{ISSUER}.crt")


def load_issuer(fleet: Fleet, passphrase: bytes | None = None) -> pki.CertificateAuthority:
    """Return the CA that issues devices' certificates.

    Raises: key-missing, key-damaged; passphrase-missing, passphrase-wrong for an encrypted key.
    """
    return pki.load_ca(fleet.keys, ISSUER, passphrase)


def new_key(kind: str) -> PrivateKey:
    """Return a new private key: "ec", on P-256, or "rsa", of 2,048 bits."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def key_der(key: PrivateKey) -> bytes:
    """Return a private key in the form that devices load: SEC 1 or PKCS #1, in DER."""
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def point_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a device's own P-256 key.

    point: x ‖ y, 64 bytes. Raises bad-body for anything else, and for no point of the curve.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    except ValueError:
        raise HostError("bad-body", "the device's public key is no point of P-256") from None


def check_name(name: str) -> str:
    """Return the name where it fits a certificate; raises bad-argument."""
    if len(name) > _MAX_NAME:
        raise HostError(
            "bad-argument",
            f"{name} has {len(name)} characters, and a certificate's name {_MAX_NAME} at most",
            "choose a shorter device ID or type: both together have 61 characters at most",
        )
    return name


def issue(
    ca: pki.CertificateAuthority, name: str, key: PublicKey, life: timedelta
) -> x509.Certificate:
    """Return a client certificate. name: the common name, which the broker takes as user name."""
    now = datetime.now(UTC)
    end = min(now + life, ca.certificate.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(pki.common_name(check_name(name)))
        .issuer_name(ca.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(pki.usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()),
            critical=False,
        )
        .sign(ca.key, hashes.SHA256())
    )


def make_crl(
    ca: pki.CertificateAuthority, revoked: Iterable[Revoked], life: timedelta = CRL_LIFE
) -> bytes:
    """Return a revocation list in PEM; its number is the time in milliseconds."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(now - _SKEW)
        .next_update(now + life)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()),
            critical=False,
        )
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(entry.serial)
            .revocation_date(datetime.fromtimestamp(entry.moment, UTC))
            .build()
        )
    crl = builder.sign(ca.key, hashes.SHA256())
    return crl.public_bytes(serialization.Encoding.PEM)


def write_crl(fleet: Fleet, pem: bytes, issuer: x509.Certificate) -> None:
    """Replace the broker's revocation list in one step, and read it back.

    A list that the broker can't read would refuse every certificate, or end the broker.
    Raises crl-damaged.
    """
    _parse_crl(pem, issuer)
    secretfile.write(fleet.broker / CRL, pem)
    if secretfile.read(fleet.broker / CRL, damaged="crl-damaged") != pem:
        raise HostError("crl-damaged", f"broker/{CRL} is not what was written")


def load_crl(fleet: Fleet) -> x509.CertificateRevocationList:
    """Return the broker's revocation list; raises crl-damaged, also where it is missing."""
    path = fleet.broker / CRL
    if not path.exists():
        raise HostError("crl-damaged", f"broker/{CRL} is not there")
    return _parse_crl(
        secretfile.read(path, _MAX_CRL, "crl-damaged"), issuer_certificate(fleet)
    )


def _parse_crl(pem: bytes, issuer: x509.Certificate) -> x509.CertificateRevocationList:
    try:
        crl = x509.load_pem_x509_crl(pem)
        key = issuer.public_key()
        good = isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
    except (ValueError, TypeError, InvalidSignature):
        good = False
    if not good or crl.next_update_utc is None or crl.issuer != issuer.subject:
        raise HostError("crl-damaged", f"broker/{CRL} is no revocation list of this fleet's CA")
    return crl


def crl_ends(fleet: Fleet) -> datetime:
    """Return when the broker's revocation list ends; raises crl-damaged."""
    return cast(datetime, load_crl(fleet).next_update_utc)  # no list without one is loaded
