"""The fleet's own certificates: a CA, the broker's leaf, and a backup key for a later leaf.

Leaves carry the CA's notBefore, older than any device's clock floor: a device that boots in 2021
still reaches a server whose certificate was issued today (docs/protocol.md, Clock).
"""

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from warden_client import secretfile
from warden_host.errors import HostError
from warden_host.fleet import sealed_pem

NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
CA_NOT_AFTER = datetime(2050, 1, 1, tzinfo=UTC)
LEAF_LIFE = timedelta(days=3650)
Key = ec.EllipticCurvePrivateKey
DER = serialization.Encoding.DER


@dataclass(frozen=True)
class Leaf:
    """A server certificate and its private key."""

    certificate: x509.Certificate
    key: Key

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return private_pem(self.key)


@dataclass(frozen=True)
class CertificateAuthority:
    """A CA: its certificate and its private key."""

    certificate: x509.Certificate
    key: Key

    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        hosts: tuple[str, ...],
        *,
        key: Key | None = None,
        not_before: datetime = NOT_BEFORE,
        not_after: datetime | None = None,
    ) -> Leaf:
        """Return a server leaf for DNS names and IP addresses, by default with a new key."""
        key = key or new_key()
        alternatives = [_general_name(host) for host in dict.fromkeys(hosts)]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(common_name("Warden broker"))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after or datetime.now(UTC) + LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(digital_signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            )
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return Leaf(certificate, key)


def new_key() -> Key:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_ca(
    name: str = "Warden fleet CA",
    issuer: CertificateAuthority | None = None,
    *,
    path_length: int = 0,
    crl_sign: bool = False,
) -> CertificateAuthority:
    """Return a new CA, signed by itself where no issuer is named.

    path_length: how many CAs may be below it. crl_sign: whether it signs a revocation list.
    """
    key = new_key()
    signer = issuer.key if issuer else key
    certificate = (
        x509.CertificateBuilder()
        .subject_name(common_name(name))
        .issuer_name(issuer.certificate.subject if issuer else common_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(CA_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=crl_sign), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return CertificateAuthority(certificate, key)


def pin(key: Key | x509.Certificate) -> bytes:
    """Return the SHA-256 of the SubjectPublicKeyInfo (RFC 7469 §2.4)."""
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()


def public_pem(key: Key) -> bytes:
    """Return the public half of a key in PEM."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def private_pem(key: Key) -> bytes:
    """Return a private key as unencrypted PKCS #8 in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def create(keys: Path, hosts: tuple[str, ...], passphrase: bytes | None = None) -> None:
    """Write the CA, the broker's leaf and the backup key to the fleet's keys folder.

    passphrase: of the CA's key, or None.
    """
    ca = new_ca()
    leaf = ca.issue(hosts)
    write_ca(keys, "ca", ca, passphrase)
    secretfile.write(keys / "server.key", leaf.key_pem())
    secretfile.write(keys / "server.crt", leaf.certificate_pem())
    # Devices pin this key from the start; it is used when server.key is replaced.
    secretfile.write(keys / "backup.key", private_pem(new_key()))


def renew_backup(keys: Path) -> None:
    """Replace the backup key; devices pin the old one until their pins are rotated."""
    secretfile.write(keys / "backup.key", private_pem(new_key()))


def write_ca(keys: Path, name: str, ca: CertificateAuthority, passphrase: bytes | None) -> None:
    """Write NAME.key, encrypted where a passphrase is given, then NAME.crt."""
    secretfile.write(keys / f"{name}.key", ca_key_pem(ca.key, passphrase))
    secretfile.write(keys / f"{name}.crt", ca.pem())


def ca_key_pem(key: Key, passphrase: bytes | None) -> bytes:
    """Return a CA's private key in PEM, under the passphrase or, with None, in clear."""
    return private_pem(key) if passphrase is None else sealed_pem.seal(key, passphrase)


def load_ca(
    keys: Path, name: str = "ca", passphrase: bytes | None = None
) -> CertificateAuthority:
    """Return a CA of the fleet.

    passphrase: of an encrypted key; asked for by the caller where is_sealed() says so.
    Raises: key-missing, key-permissions, key-damaged, passphrase-missing, passphrase-wrong.
    """
    return CertificateAuthority(
        load_certificate(keys / f"{name}.crt"), load_key(keys / f"{name}.key", passphrase)
    )


def is_sealed(path: Path) -> bool:
    """Return whether a private key is under a passphrase; raises key-missing."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in secretfile.read(path)


def ca_der(keys: Path) -> bytes:
    """Return the certificate of the fleet's CA, which devices trust, in DER."""
    return load_certificate(keys / "ca.crt").public_bytes(serialization.Encoding.DER)


def load_pins(keys: Path) -> tuple[bytes, bytes]:
    """Return the pins of the broker's leaf and of the backup key."""
    return pin(load_certificate(keys / "server.crt")), pin(load_key(keys / "backup.key"))


def load_key(path: Path, passphrase: bytes | None = None) -> Key:
    """Return a P-256 private key; raises as load_ca()."""
    pem = secretfile.read(path)
    key: object
    if is_sealed(path):
        if passphrase is None:
            raise HostError("passphrase-missing", f"{path.name} is under a passphrase")
        key = sealed_pem.unseal(pem, passphrase)
    else:
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise _damaged(path) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path)
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Return a certificate; raises as load_ca()."""
    try:
        return x509.load_pem_x509_certificate(secretfile.read(path))
    except ValueError:
        raise _damaged(path) from None


def _damaged(path: Path) -> HostError:
    return HostError("key-damaged", f"{path.name} can't be read", "restore it from a backup")


def common_name(common: str) -> x509.Name:
    """Return a name that is a common name alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """Return a key usage extension (RFC 5280 §4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
