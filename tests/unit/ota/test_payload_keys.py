"""Encrypted images: which copies of a key are wiped, and the one buffer of a download."""

# Imported first: below the tests that this module imports, its compilation would be too deep for a
# stack of 40 KB.
import warden.wire.suit  # noqa: F401
from harness import check, equal, raises
from test_payload import CONTENT, DEVICE, TYPE, K, board_of, info, seal
from warden.crypto import ct
from warden.crypto.ccm import CCM
from warden.crypto.kdf import hkdf
from warden.ota import payload
from warden.wire import cbor

HEAP = "8m"  # boards of 64 to 128 KB, one after the other


class Watched:
    """Record which buffers are wiped and which keys are dropped.

    It stands in for the names of ota/payload.py.
    """

    def __init__(self):
        self.buffers = []
        self.closed = 0

    def __enter__(self):
        watched = self

        class Cipher(CCM):
            def close(self):
                watched.closed += 1
                super().close()

        self._names = payload.CCM, payload.ct
        payload.CCM, payload.ct = Cipher, self
        return self

    def __exit__(self, *_):
        payload.CCM, payload.ct = self._names

    def wipe(self, buffer):
        self.buffers.append(buffer)
        ct.wipe(buffer)


class Image:
    """What a plan says about one; a plan as well, of nothing but itself."""

    digest = bytes(32)

    def __init__(self, size, encryption=None):
        self.size = size
        self.encryption = encryption
        self.images = [self]


def test_the_keys_copies_are_wiped():
    """What unwrapping leaves of a content key, and the key that is none of the manifest's."""
    board = board_of()
    vault = board.vault()
    secret = hkdf(K, cbor.encode(["warden1", "payload", 1, TYPE, DEVICE, "authority"]), 32)
    aad = cbor.encode(["warden1", "payload key", bytes(32)])
    good = b"n" * 13 + seal(secret, b"n" * 13, CONTENT, aad)
    with Watched() as watched:
        key = payload.content_key(vault, good, Image(10, info()))
        equal((bytes(key), watched.closed), (CONTENT, 1))
        # The returned key is the only copy: the buffer that it was decrypted in is wiped.
        equal([bytes(one[:32]) for one in watched.buffers], [bytes(32)])
        equal(len(watched.buffers[0]), 48)
    with Watched() as watched:
        # The last of the kid's eight bytes counts as well as the first.
        near = bytearray(info())
        near[-3] ^= 1
        raises("payload-key", payload.content_key, vault, good, Image(10, bytes(near)))
        equal([len(one) for one in watched.buffers], [48, 32])
        check(not any([any(one) for one in watched.buffers]))
        equal(watched.closed, 1)
    with Watched() as watched:
        raises("payload-key", payload.content_key, vault, good[:-1] + b"?", Image(10, info()))
        equal(watched.closed, 1)
    board.off()


def test_a_way_through_one_buffer():
    for size, total, buffer in (
        (1, 17, 17),
        (1007, 1023, 1023),
        (1008, 1024, 1024),
        (1009, 1041, 1024),
        (2016, 2048, 1024),
        (2017, 2065, 1024),
        (1 << 20, (1 << 20) + 1041 * 16, 1024),
    ):
        image = Image(size)
        segments = payload.Segments(bytearray(CONTENT), 2, "app", image)
        equal((segments.total(), len(segments._buffer)), (total, buffer), str(size))
        # From the beginning, and never more than was asked for, nor beyond the segment.
        equal(segments.want(10), (0, 10))
        equal(segments.want(4096), (0, buffer))
        segments.open(b"x" * 5)
        equal(segments.want(4096), (5, buffer - 5))
    with Watched() as watched:
        segments = payload.Segments(bytearray(CONTENT), 2, "app", image)
        segments.open(b"x" * 5)
        left = segments._buffer
        check(any(left))
        segments.close()
        equal((watched.closed, any(left)), (1, False))
