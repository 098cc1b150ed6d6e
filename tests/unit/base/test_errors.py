"""The error types and `ensure`."""

from harness import check, equal, raises
from warden import errors

PURE = True


def test_text_and_code():
    error = errors.PeerError("tampered", "the tag does not match")
    equal(error.code, "tampered")
    equal(str(error), "tampered: the tag does not match")
    equal(str(errors.StoreError("root-key")), "root-key")


def test_ensure_survives_optimisation():
    raises("bad-argument", errors.ensure, False, "bad-argument", "x")
    check(errors.ensure(True, "bad-argument") is None)


def test_a_lost_link_is_caught_as_a_peers_error_too():
    """An application of an earlier version has `except PeerError` around what uses the network."""
    check(issubclass(errors.LinkError, errors.PeerError))
    for kind in (errors.UsageError, errors.StoreError, errors.OutOfMemory):
        check(issubclass(kind, errors.WardenError) and not issubclass(kind, errors.PeerError))
