"""The three fields of an X.509 certificate (RFC 5280 §4.1) that a pin and a clock want: the public
key and the two dates.

mbedTLS has checked the chain; this reads the same bytes with DER's one encoding for each length,
so that what is pinned is what was verified. Times are Unix seconds in UTC, by integer arithmetic:
`time` counts from 1970 on one port and from 2000 on another.
"""

from micropython import const

from ..errors import PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]

# TLS carries a chain of that size in one record; the stack takes no larger one.
_MOST = const(16384)

_INTEGER = const(0x02)
_BIT_STRING = const(0x03)
_UTC_TIME = const(0x17)
_GENERALIZED_TIME = const(0x18)
_SEQUENCE = const(0x30)
_VERSION = const(0xA0)
# issuerUniqueID, subjectUniqueID, extensions.
_TRAILERS = const((0x81, 0x82, 0xA3))

_MONTHS = const((31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31))


def fields(data: "Buffer") -> "tuple[memoryview, int, int]":
    """Return (SubjectPublicKeyInfo as a view, notBefore, notAfter) of one certificate.

    data: DER, at most 16,384 bytes. The times are Unix seconds.

    Raises PeerError certificate-malformed for anything but one certificate without a byte left
    over.
    """
    if len(data) > _MOST:
        raise PeerError("certificate-malformed")
    view = memoryview(data)
    start, end = _tlv(view, 0, len(view), _SEQUENCE)
    if end != len(view):
        raise PeerError("certificate-malformed")

    # TBSCertificate, signatureAlgorithm, signatureValue.
    tbs, tbs_end = _tlv(view, start, end, _SEQUENCE)
    _, at = _tlv(view, tbs_end, end, _SEQUENCE)
    _, at = _tlv(view, at, end, _BIT_STRING)
    if at != end:
        raise PeerError("certificate-malformed")

    at = tbs
    if at < tbs_end and view[at] == _VERSION:
        _, at = _tlv(view, at, tbs_end, _VERSION)
    _, at = _tlv(view, at, tbs_end, _INTEGER)  # serialNumber
    _, at = _tlv(view, at, tbs_end, _SEQUENCE)  # signature
    _, at = _tlv(view, at, tbs_end, _SEQUENCE)  # issuer
    validity, validity_end = _tlv(view, at, tbs_end, _SEQUENCE)
    _, at = _tlv(view, validity_end, tbs_end, _SEQUENCE)  # subject
    spki = at
    _, at = _tlv(view, at, tbs_end, _SEQUENCE)
    spki_end = at
    last = 0
    while at < tbs_end:
        tag = view[at]
        if tag not in _TRAILERS or tag <= last:
            raise PeerError("certificate-malformed")
        last = tag
        _, at = _tlv(view, at, tbs_end, tag)

    not_before, at = _time(view, validity, validity_end)
    not_after, at = _time(view, at, validity_end)
    if at != validity_end:
        raise PeerError("certificate-malformed")
    return view[spki:spki_end], not_before, not_after


def _tlv(view: memoryview, at: int, end: int, tag: int) -> "tuple[int, int]":
    """Return (start of the content, end) of the element of this tag at `at`.

    Lengths are in DER's shortest form, at most 65,535.
    """
    if end - at < 2 or view[at] != tag:
        raise PeerError("certificate-malformed")
    n = view[at + 1]
    at += 2
    if n & 0x80:
        size = n & 0x7F
        if not 1 <= size <= 2 or end - at < size:
            raise PeerError("certificate-malformed")
        n = view[at]
        if size == 2:
            n = n << 8 | view[at + 1]
        if n < (0x80, 0x100)[size - 1]:
            raise PeerError("certificate-malformed")
        at += size
    if n > end - at:
        raise PeerError("certificate-malformed")
    return at, at + n


def _time(view: memoryview, at: int, end: int) -> "tuple[int, int]":
    """Return (Unix seconds, end) of a UTCTime or a GeneralizedTime (RFC 5280 §4.1.2.5).

    The forms are YYMMDDHHMMSSZ and YYYYMMDDHHMMSSZ.
    """
    if at >= end or view[at] not in (_UTC_TIME, _GENERALIZED_TIME):
        raise PeerError("certificate-malformed")
    general = view[at] == _GENERALIZED_TIME
    start, stop = _tlv(view, at, end, view[at])
    if stop - start != (15 if general else 13) or view[stop - 1] != 0x5A:
        raise PeerError("certificate-malformed")
    pairs = []
    for i in range(start, stop - 1, 2):
        tens = view[i] - 48
        ones = view[i + 1] - 48
        if not (0 <= tens <= 9 and 0 <= ones <= 9):
            raise PeerError("certificate-malformed")
        pairs.append(tens * 10 + ones)
    if general:
        year = pairs.pop(0) * 100 + pairs.pop(0)
    else:
        year = pairs.pop(0)
        year += 1900 if year >= 50 else 2000
    month, day, hour, minute, second = pairs
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        raise PeerError("certificate-malformed")
    if not 1 <= day <= _MONTHS[month - 1] + (1 if leap and month == 2 else 0):
        raise PeerError("certificate-malformed")
    # Leap days up to the end of the year before, less the 477 up to the end of 1969.
    past = year - 1
    days = (year - 1970) * 365 + past // 4 - past // 100 + past // 400 - 477
    for i in range(month - 1):
        days += _MONTHS[i]
    if leap and month > 2:
        days += 1
    return (((days + day - 1) * 24 + hour) * 60 + minute) * 60 + second, stop
