"""Several release keys: which of them are asked, and what the answer of one means for the others."""

from harness import equal, raises
from update_kit import CLASS, VENDOR, Key, envelope
from warden.errors import PeerError
from warden.wire import suit
from warden.wire.suit_commands import Target

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


def judged(*keys):
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
        equal(judged(*keys).sequence, 2)
        equal([key.asked for key in keys], asked)


def test_none_of_them():
    raises("tampered", judged, Never())
    raises("tampered", judged, Never(), Other(), Never())
    raises("cose-algorithm", judged, Other(), Other())
    raises("cose-algorithm", judged)


def test_an_error_is_no_answer():
    key = Key()
    raises("cose-malformed", judged, Broken(), key)
    equal(key.asked, 0)
