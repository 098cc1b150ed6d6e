"""Explain why a hand-shake failed. Loaded after a failure, and unloaded again."""

from micropython import const

from ..errors import LinkError, PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .verifier import Verifier

# ECONNRESET on unix, lwIP and ESP-IDF; EPIPE; MBEDTLS_ERR_SSL_CONN_EOF; 0 or -1 on ports without
# a cause.
_CLOSED = const((104, 54, 32, 103, 113, 128, -29312, 0, -1))
# Refused, no route, no network: a connect that does not wait fails at the first write.
_UNREACHABLE = const((111, 101, 114, 118))
_VERIFY_FAILED = const(-9984)  # MBEDTLS_ERR_X509_CERT_VERIFY_FAILED, without the stack's words
# From MBEDTLS_ERR_X509_FATAL_ERROR with a low-level code added to
# MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE.
_X509_ERRORS = const((-12416, -8320))
# Kinds of TLS records (RFC 5246 §6.2.1), and the first letter of an answer by HTTP.
_RECORDS = const((20, 21, 22, 23))
_HTTP = const(72)
_TOO_LARGE = const(-28928)  # MBEDTLS_ERR_SSL_BAD_INPUT_DATA: above MBEDTLS_SSL_IN_CONTENT_LEN
_UNFIT = const(-31232)  # MBEDTLS_ERR_SSL_BAD_CERTIFICATE, such as one for clients only
# No memory left for SSL (MicroPython makes it ENOMEM), X.509, PK, ECP, MD, a cipher.
_NO_MEMORY = const((12, -10368, -16256, -19840, -20864, -24960))
# Nor for big numbers and ASN.1: alone and positive, or in the lowest bits of another code.
_NO_MEMORY_LOW = const((16, 106))
_ALERTED = const(-30592)  # MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE
# handshake_failure, protocol_version, insufficient_security (RFC 5246 §7.2): no common cipher or
# version.
_NOTHING_COMMON = const((40, 70, 71))


def of_handshake(
    verifier: "Verifier", error: Exception, now: int, address: bool, first: int, alert: int
) -> PeerError:
    """Return the error for a failed hand-shake.

    verifier: of this hand-shake. error: what the TLS stack or the socket raised.
    now: the clock's time, unix seconds. address: whether the server's name is an IP address.
    first: the first byte that came from the server, 0 for none.
    alert: the description of the server's fatal alert (RFC 5246 §7.2), if it sent one.
    Raises as explain().
    """
    code = explain(verifier, error, now)
    if verifier.pinned == 1 and hasattr(verifier.trust, "refused"):
        code = verifier.trust.refused(code, now, alert)
        if code.startswith("own-"):
            return PeerError(code, "the server refused this device's certificate")
    if code == "link-closed":
        return LinkError(code, "the server closed the connection during the hand-shake")
    if code == "unreachable":
        return LinkError(code, "no connection to the server (errno %s)" % error.args[0])
    if code == "tls-failed" and not verifier.seen and first and first not in _RECORDS:
        what = "a web server, or a captive portal" if first == _HTTP else "something else"
        return PeerError("no-tls", "what answers is no TLS server: " + what)
    if code == "tls-failed" and not verifier.seen and error.args[0] == _TOO_LARGE:
        text = "a message of the server's hand-shake, as a rule its certificates, is above 16 KB"
        return PeerError("certificate-too-large", text)
    if code == "tls-failed" and error.args[0] == _ALERTED:
        if address and alert not in _NOTHING_COMMON and not verifier.seen:
            code = "tls-address"
        return PeerError(code, "the server refused to shake hands (alert %d)" % alert)
    return PeerError(code, "the hand-shake failed")


def explain(verifier: "Verifier", error: Exception, now: int) -> str:
    """Return the code of a failed hand-shake; the parameters are those of of_handshake().

    Raises MemoryError where the TLS stack had no memory.
    """
    if verifier.refusal:
        return verifier.refusal
    if isinstance(error, OSError) and _is_memory(error.errno or 0):
        raise MemoryError
    if isinstance(error, OSError) and error.errno != _VERIFY_FAILED:
        # A lost line, or a peer without the certificate's key, is no reason to refuse the
        # certificate.
        if error.errno in _UNREACHABLE:
            return "unreachable"
        if error.errno == _UNFIT or _X509_ERRORS[0] < error.errno <= _X509_ERRORS[1]:
            return "certificate-unsupported"
        return "link-closed" if error.errno in _CLOSED else "tls-failed"
    if not verifier.seen:
        # The stack's words for one of our CAs that it can't read.
        return "certificate-unsupported" if str(error) == "invalid cert" else "tls-failed"
    # The stack lists all that is wrong: without our CA's signature the dates mean nothing.
    words = str(error)
    if not verifier.pinned or "correctly" in words:
        return "certificate-untrusted"
    if "unacceptable" in words:  # its hash, or its key
        return "certificate-unsupported"
    if now < verifier.not_before:
        return "certificate-not-yet-valid"
    if now > verifier.not_after:
        return "certificate-expired"
    # The callback sees our CA above a leaf that it did not sign, too: the stack's words differ
    # from those of a wrong name (CN).
    return "certificate-name" if "CN" in words else "certificate-untrusted"


def _is_memory(number: int) -> bool:
    low = number if number > 0 else -number & 127
    return number in _NO_MEMORY or low in _NO_MEMORY_LOW
