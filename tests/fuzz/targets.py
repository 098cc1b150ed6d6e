"""What must hold for every input. Each function takes bytes and raises AssertionError when a
parser of the device breaks its word; a refusal is fine, any other exception is a finding."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent / "lib"), str(TESTS / "cpython"), str(TESTS / "unit" / "kit")]

import cose_kit  # noqa: E402  (the path must be set first)
from warden.errors import PeerError  # noqa: E402
from warden.wire import cbor, cose, envelope, x509  # noqa: E402
from warden.wire.cbor_reader import Reader  # noqa: E402


def check_cbor(data: bytes) -> None:
    """Decoded means canonical; skip() and decode() judge alike."""
    code = None
    try:
        reader = Reader(data)
        view = reader.skip()
        reader.end()
        assert bytes(view) == data
    except PeerError as error:
        code = error.code
        assert code.startswith("cbor-"), code
    try:
        assert cbor.encode(cbor.decode(data)) == data
    except PeerError as error:
        assert error.code == code, (error.code, code)
    else:
        assert code is None, code


def bstr(value: bytes) -> bytes:
    return cbor.head(cbor_bytes, len(value)) + bytes(value)


cbor_bytes = 2


def check_cose(data: bytes) -> None:
    """A strict message is one that the template of envelope.py takes too, and its parts make it up
    again."""
    for parse, template, front in (
        (cose_kit.parse_mac0, envelope.parse_mac0, b"\x84"),
        (cose_kit.parse_encrypt0, envelope.parse_encrypt0, b"\x83"),
        (cose_kit.parse_sign1, None, b"\x84"),
    ):
        accepted = []
        for strict in (True, False):
            try:
                parsed = parse(data, strict=strict)
            except PeerError as error:
                assert error.code in ("cose-malformed", "cose-algorithm"), error.code
                accepted.append(False)
                continue
            accepted.append(True)
            assert parsed.body is not None
            if strict:
                again = front + bstr(parsed.protected) + b"\xa0" + bstr(bytes(parsed.body))
                if parsed.tag is not None:
                    again += bstr(bytes(parsed.tag))
                assert again == data
        assert accepted[1] or not accepted[0]
        if template is not None:
            try:
                template(memoryview(data))
            except PeerError:
                assert not accepted[0] or len(data) > 65535
            else:
                assert accepted[0]
    codes = []
    for read in (lambda: cose.parse_sign1(data), lambda: cose_kit.parse_sign1(data, True, True)):
        try:
            read()
            codes.append("")
        except PeerError as error:
            codes.append(error.code)
    assert codes[0] == codes[1], codes


def check_x509(data: bytes) -> None:
    """What is pinned is a part of the certificate, and the dates are dates."""
    try:
        spki, before, after = x509.fields(data)
    except PeerError as error:
        assert error.code == "certificate-malformed", error.code
        return
    assert len(data) <= 4096
    spki = bytes(spki)
    assert spki[0] == 0x30
    assert spki in data
    for moment in (before, after):
        assert -62167219200 <= moment <= 253402300799


CHECKS = {"cbor": check_cbor, "cose": check_cose, "x509": check_x509}
