"""Several release keys: which are asked, and what one answer means for the others.

And a device that holds no image.
"""

from harness import equal, raises
from update_kit import CLASS, VENDOR, Key, envelope
from warden.errors import PeerError
from warden.wire import cbor, suit, suit_labels
from warden.wire.suit_commands import Machine, Target

BUILT = True
MADE = envelope(2, [b"image"])


class Other(Key):
    """Of another algorithm."""

    algorithms = (-37,)


class Never(Key):
    """Finds every signature wrong."""

    def verify(self, digest, signature):
        self.asked += 1
        return False


class Broken(Key):
    """Can't say: that is no answer, and no other key's to give."""

    def verify(self, digest, signature):
        self.asked += 1
        raise PeerError("cose-malformed", "what it says")


def verified(*keys):
    return suit.process(MADE, keys, Target(VENDOR, CLASS, 1, [(b"app",)], 1))


def test_any_of_them():
    for keys, asked in (
        ((Key(),), [1]),
        ((Never(), Key()), [1, 1]),
        ((Key(), Never()), [1, 0]),
        ((Other(), Key()), [0, 1]),
        ((Key(), Other()), [1, 0]),
        ((Other(), Never(), Other(), Key()), [0, 1, 0, 1]),
    ):
        equal(verified(*keys).sequence, 2)
        equal([key.asked for key in keys], asked)


def test_none_of_them():
    raises("tampered", verified, Never())
    raises("tampered", verified, Never(), Other(), Never())
    raises("cose-algorithm", verified, Other(), Other())
    raises("cose-algorithm", verified)


def test_an_error_is_no_answer():
    key = Key()
    raises("cose-malformed", verified, Broken(), key)
    equal(key.asked, 0)


def test_a_device_that_holds_nothing():
    """Asked whether an image is there, without anybody who could say: it is not."""

    class Plan:
        images = ()
        floor, invoke = 0, None

    for known in ({}, {3: cbor.encode([-16, bytes(32)])}):
        sequence = memoryview(cbor.encode([20, known, 3, 15]))
        machine = Machine(Plan(), Target(VENDOR, CLASS, 1, [(b"app",)], 1), [0])
        raises("suit-condition", machine.run, None, {suit_labels.VALIDATE: sequence})
