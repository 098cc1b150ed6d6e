"""Randomness fails closed."""

from harness import check, equal, raises
from warden.crypto import rand

PURE = True


def with_source(source, function):
    saved = rand._source
    rand._source = source
    try:
        return function()
    finally:
        rand._source = saved


def test_lengths():
    for n in (0, 1, 15, 16, 17, 32, 4096):
        equal(len(rand.random_bytes(n)), n)
    check(rand.random_bytes(16) != rand.random_bytes(16))
    raises("bad-argument", rand.random_bytes, -1)
    raises("bad-argument", rand.random_bytes, 4097)


def test_missing_source():
    with_source(None, lambda: raises("randomness", rand.random_bytes, 8))


def broken(n):
    raise OSError(5)


def test_failing_source():
    with_source(broken, lambda: raises("randomness", rand.random_bytes, 8))


def test_short_source():
    with_source(lambda n: bytes(range(n - 1)), lambda: raises("randomness", rand.random_bytes, 32))


def test_constant_source():
    for value in (0, 255, 7):
        with_source(
            lambda n, block=bytes((value,)): block * n,
            lambda: raises("randomness", rand.random_bytes, 1),
        )


def test_repeating_source():
    def twice():
        equal(rand.random_bytes(4), bytes(range(1, 5)))
        raises("randomness", rand.random_bytes, 4)
        raises("randomness", rand.random_bytes, 40)

    with_source(lambda n: bytes((i + 1) & 255 for i in range(n)), twice)
