"""Events that wait until their applications have them."""

from harness import check, equal, raises
from warden.session.outbox import Outbox

PURE = True
A, B = 1, 2  # the bits of two applications


class Box(Outbox):
    """An outbox, and what became of its events: (number, whether it was delivered)."""

    def __init__(self, most=4, largest=200, drop_oldest=True):
        self.ended = []
        super().__init__(
            most, largest, drop_oldest, lambda number, good: self.ended.append((number, good))
        )

    def put(self, number, lacking=A, name=b"door", body=b"\xa0", served=0):
        return self.add(number, lacking, name, body, served)

    def numbers(self):
        return [entry.number for entry in self.entries()]


def filled(*numbers, drop_oldest=True):
    box = Box(len(numbers), drop_oldest=drop_oldest)
    for number in numbers:
        check(box.put(number))
    return box


def test_events_leave_when_all_have_them():
    box = Box()
    check(box.put(3, A | B, b"door", b"\xa1\x61a\x01"))
    check(box.put(7, B, b"temperature", b"\xa0"))
    found = [(e.number, e.lacking, bytes(e.name), bytes(e.body)) for e in box.entries()]
    equal(found, [(3, A | B, b"door", b"\xa1\x61a\x01"), (7, B, b"temperature", b"\xa0")])
    check(box.acknowledge(A, 7))
    equal((box.numbers(), box.ended), ([3, 7], []))
    check(not box.acknowledge(A, 7))
    check(not box.acknowledge(B, 2))
    check(box.acknowledge(B, 3))
    equal((box.numbers(), box.ended), ([7], [(3, True)]))
    check(box.acknowledge(B, 4294967295))
    equal((box.numbers(), box.count, len(box.saved())), ([], 0, 0))
    equal(box.ended, [(3, True), (7, True)])


def test_an_acknowledgement_of_many_is_of_all_before():
    box = filled(1, 2, 3, 4)
    check(box.acknowledge(A, 3))
    equal((box.numbers(), [number for number, _ in box.ended]), ([4], [1, 2, 3]))


def test_the_oldest_makes_room():
    box = filled(1, 2, 3)
    check(box.put(4))
    equal((box.numbers(), box.ended), ([2, 3, 4], [(1, False)]))


def test_the_newest_is_dropped():
    box = filled(1, 2, 3, drop_oldest=False)
    check(not box.put(4))
    equal((box.numbers(), box.ended), ([1, 2, 3], []))
    check(box.acknowledge(A, 1))
    check(box.put(5))
    equal(box.numbers(), [2, 3, 5])


def test_bytes_are_bounded_too():
    """Four events of the policy are 512 bytes: an event that needs more makes more room."""
    box = Box(4, 200)
    for number in range(1, 5):
        check(box.put(number, body=bytes(100)))
    equal(len(box.saved()), 4 * 112)
    check(box.put(5, body=bytes(196)))
    equal((box.numbers(), box.ended), ([3, 4, 5], [(1, False), (2, False)]))
    # And one of the largest that the policy lets through fits at all.
    check(Box(1, 2048).put(1, body=bytes(2044)))
    check(not Box(1, 100).put(1, body=bytes(200)))
    check(not Box(1, 100, False).put(1, body=bytes(200)))


def test_an_application_that_stays_away_stops_no_other():
    for oldest in (True, False):
        box = Box(3, drop_oldest=oldest)
        for number in (1, 2, 3):
            check(box.put(number, A | B))
        box.acknowledge(A, 2)
        # B is away: what A has goes first, and what A lacks stays.
        check(box.put(4, A | B, served=A))
        equal((box.numbers(), box.ended), ([2, 3, 4], [(1, False)]))
        check(box.put(5, A | B, served=A))
        equal(box.numbers(), [3, 4, 5])
        equal(box.put(6, A | B, served=A), oldest)


def test_saved_and_loaded():
    box = filled(5, 6, 9)
    box.acknowledge(A, 5)
    data = bytes(box.saved())
    other = Box(3)
    other.load(data, 9)
    equal((other.numbers(), other.count), ([6, 9], 2))
    check(other.put(10) and other.put(11))
    equal((other.numbers(), other.ended), ([9, 10, 11], [(6, False)]))
    Box().load(b"", 0)
    # A policy that allows less: the newest stay.
    small = Box(1)
    small.load(data, 9)
    equal((small.numbers(), small.ended), ([9], [(6, False)]))


def test_what_is_no_saved_outbox():
    data = bytes(filled(5, 6, 9).saved())
    for cut in range(1, len(data)):
        if cut % (len(data) // 3):
            raises("vault-damaged", Box().load, data[:cut], 9)
    raises("vault-damaged", Box().load, data, 8)  # a number that was never reserved
    raises("vault-damaged", Box().load, data + data, 9)  # and one that comes twice
    lacking = bytearray(data)
    lacking[4] = 0
    raises("vault-damaged", Box().load, lacking, 9)
