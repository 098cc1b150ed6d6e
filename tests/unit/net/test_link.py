"""The link over stand-ins: a peer that floods, a stack that never finishes, dead addresses."""

import asyncio
import errno
import io
import sys
import time

from harness import check, equal, raises
from test_verifier import BACKUP, CA, LEAF, PIN
from warden.errors import PeerError
from warden.net import link as module
from warden.net.link import Link
from warden.net.verifier import TrustAnchors

# What the TLS stack may take at most of one call, and where a stand-in gives up that nobody stops.
ALLOWED = 4096
FAR_TOO_MUCH = 1 << 20
ENDLESS = 1 << 30
REFUSED = 111
SILENT = errno.EINPROGRESS  # and then nothing
RESET = errno.ECONNRESET  # what lwIP says of a refused connection, when it is used
CONNECT = b"\x10 CONNECT with the password"


class Ticks:
    """Stands for `time`: each look at the clock takes 10 ms."""

    def __init__(self):
        self.now = 0

    def ticks_ms(self):
        self.now += 10
        return self.now

    ticks_diff = staticmethod(time.ticks_diff)


class Raw(io.IOBase):
    """A raw socket with `ready` bytes to read, of any value; always writable."""

    def __init__(self, net):
        self.net = net
        self.closed = 0

    def setblocking(self, on):
        check(on is False)

    def connect(self, place):
        self.net.tried.append(place)
        answer = self.net.places[place]
        self.silent = answer == SILENT
        self.reset = answer == RESET
        if answer:
            raise OSError(errno.EINPROGRESS if self.reset else answer)

    def send(self, data):
        if self.reset:
            raise OSError(errno.ECONNRESET)
        return len(data)

    def readinto(self, buffer, most=None):
        count = min(len(buffer), self.net.ready, len(buffer) if most is None else most)
        if not count:
            return None
        self.net.ready -= count
        self.net.read += count
        return count

    def write(self, data):
        return len(data)

    def ioctl(self, request, argument):
        # Poll: ready for whatever is asked, but nothing comes from a server that shows nothing.
        # All else is not known, a file descriptor neither.
        ready = 5 if self.net.shows else 4
        return argument & ready if request == 3 else -errno.EINVAL

    def close(self):
        self.closed += 1


class Net:
    """A stand-in for the modules `socket` and `tls`.

    places: address -> 0, or the errno of connecting to it. names: family -> its addresses.
    """

    AF_INET, AF_INET6, SOCK_STREAM = 2, 10, 1
    PROTOCOL_TLS_CLIENT = CERT_REQUIRED = 0

    def __init__(
        self, ready=0, shows=(CA, LEAF), places=None, names=None, greedy=False, passes_on=False
    ):
        self.ready = ready
        self.shows = shows
        self.places = {"a": 0} if places is None else places
        self.names = {2: ["a"]} if names is None else names
        self.greedy = greedy
        self.passes_on = passes_on
        self.asked = []
        self.tried = []
        self.read = 0
        self.worst = 0  # bytes read in one call of the stack
        self.calls = 0
        self.written = b""
        self.records = []
        self.raws = []
        self.turns = 0

    # -- socket

    def getaddrinfo(self, host, port, family, kind):
        self.asked.append(family)
        if not self.names.get(family):
            raise OSError(-2)
        return [(family, kind, 0, "", place) for place in self.names[family]]

    def socket(self, *place):
        self.raws.append(Raw(self))
        return self.raws[-1]

    # -- tls

    def SSLContext(self, protocol):  # noqa: N802  (the module's name for it)
        return self

    def set_ciphers(self, ciphers):
        pass

    def load_verify_locations(self, ca):
        pass

    def wrap_socket(self, raw, **options):
        self.stream = raw
        self.shaken = False
        return self

    def drain(self):
        """Read whatever the stream gives, as a stack does that drops all of it."""
        buffer = bytearray(1500)
        start = self.read
        self.calls += 1
        while self.read - start < FAR_TOO_MUCH and self.stream.readinto(buffer):
            pass
        self.worst = max(self.worst, self.read - start)

    def write(self, data):
        if self.greedy:
            self.drain()
            return None
        if not self.shaken and self.shake():
            return 1
        self.records.append(bytes(data))
        self.written += bytes(data)
        return len(data)

    def shake(self):
        """Show the certificates: whether the callback's refusal passes for a byte."""
        self.shaken = True
        for at, der in enumerate(self.shows):
            if self.verify_callback(memoryview(der), len(self.shows) - 1 - at):
                if not self.passes_on:
                    raise OSError(-9984)
                return True  # as Mbed TLS does under MicroPython, and fails at the next call
        return False

    def readinto(self, view):
        if not self.shaken and not self.greedy:
            return 1 if self.shake() else None
        self.drain()
        return None

    def close(self):
        pass

    # -- the test's side

    async def count(self):
        while True:
            self.turns += 1
            await asyncio.sleep_ms(0)

    def run(self, work):
        """work(link) in a loop where another task counts its turns."""

        async def both():
            task = asyncio.create_task(self.count())
            try:
                return await work(Watched(TrustAnchors([CA], [PIN, BACKUP]), Clock(), 1000))
            finally:
                task.cancel()

        saved = module.time
        module.time = Ticks()
        sys.modules["tls"] = sys.modules["socket"] = self
        try:
            asyncio.new_event_loop()
            return asyncio.run(both())
        finally:
            module.time = saved
            del sys.modules["tls"], sys.modules["socket"]

    def connect(self, host="broker.example"):
        return self.run(lambda link: link.connect(host, 1, CONNECT, 1000))


class Watched(Link):
    """A link that waits for a silent address by the clock of the test."""

    async def _wait(self, writable, wait_ms):
        if self._raw.silent:
            module.time.now += wait_ms
            return False
        return await super()._wait(writable, wait_ms)


class Clock:
    """The verifier's dates are good: nobody asks for more."""

    def now(self):
        return 1800000000


# -- a stack that does not come back while bytes are there ----------------------------------------


def test_a_flood_in_the_hand_shake():
    net = Net(ENDLESS, greedy=True)
    raises("link-timeout", net.connect)
    check(0 < net.worst <= ALLOWED, net.worst)
    # Others had their turn between any two calls, and the deadline held.
    check(net.turns >= net.calls > 10, (net.turns, net.calls))


def flooded(work):
    """Run work(link) on a connection that is flooded; return the net and the error's code."""
    net = Net()

    async def connected(link):
        await link.connect("broker.example", 1, CONNECT, 1000)
        net.ready, net.greedy = ENDLESS, True
        try:
            await work(link)
        except PeerError as error:
            return error.code

    code = net.run(connected)
    check(0 < net.worst <= ALLOWED, net.worst)
    return net, code


def test_a_flood_while_sending():
    net, code = flooded(lambda link: link.send(b"x"))
    equal(code, "link-timeout")
    check(net.turns >= net.calls > 10, (net.turns, net.calls))

    async def at_once(link):
        for _ in range(3):
            equal(link.write(b"x"), 0)

    equal(flooded(at_once)[0].read, 3 * ALLOWED)


def test_a_flood_while_receiving():
    async def receive(link):
        view = memoryview(bytearray(10))
        for _ in range(20):
            equal(link.receive_into(view), None)
            # What was not read yet is told at once, so nobody waits for more than a turn.
            check(await link.wait_readable(1000))

    net, code = flooded(receive)
    equal((code, net.calls, net.read), (None, 20, 20 * ALLOWED))
    check(net.turns >= 20)


def test_the_allowance_is_for_each_call():
    net = flooded(lambda link: link.send(b"x"))[0]
    equal(net.read, net.calls * ALLOWED)


# -- pins before passwords ------------------------------------------------------------------------


def test_the_first_packet_goes_in_one_record():
    net = Net()
    net.connect()
    equal(net.records, [CONNECT], "in one record")


def test_a_firmware_that_does_not_ask():
    """A port whose TLS ignores verify_callback checks no pins: one byte of the packet is sent."""
    net = Net(shows=())
    raises("pin-mismatch", net.connect)
    equal(net.written, CONNECT[:1])
    check(net.raws[0].closed)


def test_a_server_that_answers_while_the_firmware_is_asked():
    """The whole hand-shake runs in the write of the first byte, which must not be sent twice."""

    class Slow(Net):
        def readinto(self, view):
            if not self.shaken:
                module.time.now += 250
                return None
            return super().readinto(view)

        async def silence(self, link):
            wait = link._wait

            async def hears_nothing(writable, wait_ms):
                return await wait(True, wait_ms) if writable else False

            link._wait = hears_nothing
            await link.connect("broker.example", 1, CONNECT, 5000)

    net = Slow()
    net.run(net.silence)
    equal(net.written, CONNECT)
    equal(net.records[0], CONNECT[:1])


def test_a_refusal_that_looks_like_a_byte():
    for passes_on in (False, True):
        net = Net(shows=(LEAF,), passes_on=passes_on)
        raises("certificate-untrusted", net.connect)
        equal(net.written, b"")


# -- addresses ------------------------------------------------------------------------------------


def test_every_address_is_tried():
    for names, places, tried in (
        ({2: ["a", "b"]}, {"a": REFUSED, "b": 0}, ["a", "b"]),
        ({2: ["a"], 10: ["b"]}, {"a": REFUSED, "b": 0}, ["a", "b"]),
        ({2: ["a"], 10: ["b"]}, {"a": RESET, "b": 0}, ["a", "b"]),
        ({10: ["b"]}, {"b": 0}, ["b"]),
        ({2: ["a"], 10: ["b"]}, {"a": 0, "b": 0}, ["a"]),
        # ESP-IDF's port lists an address of IPv6 as None.
        ({2: [None, "a"]}, {"a": 0}, ["a"]),
    ):
        net = Net(names=names, places=places)
        net.connect()
        equal((net.tried, net.written), (tried, CONNECT))
        # Of those that did not answer no socket stays open.
        check(all(raw.closed for raw in net.raws[:-1]))


def test_no_address_answers():
    many = ["p%d" % at for at in range(9)]
    for names, tried in (({2: many, 10: ["b"]}, 5), ({2: ["a"]}, 1), ({}, 0), ({2: [None]}, 0)):
        places = {place: REFUSED for place in many + ["a", "b"]}
        net = Net(names=names, places=places)
        error = raises("unreachable", net.connect)
        equal(len(net.tried), tried)
        check("hand-shake" not in error.text, error.text)
        check(all(raw.closed for raw in net.raws))


def test_an_address_that_says_nothing_leaves_time_for_the_next():
    net = Net(names={2: ["a"], 10: ["b"]}, places={"a": SILENT, "b": 0})
    net.connect()
    equal((net.tried, net.written), (["a", "b"], CONNECT))
    for names in ({2: ["a"], 10: ["a"]}, {2: ["a"]}):
        net = Net(names=names, places={"a": SILENT})
        raises("link-timeout", net.connect)
        equal(len(net.tried), len(names))
        check(all(raw.closed for raw in net.raws))


def test_an_address_is_looked_up_in_its_own_family():
    for host, families in (("10.0.0.7", [2]), ("fd00::7", [10]), ("7.example", [2, 10])):
        net = Net(names={})
        raises("unreachable", net.connect, host)
        equal(net.asked, families)


def test_a_refusal_is_no_reason_to_try_the_next():
    """Only who does not answer is passed over: a wrong certificate is the end."""
    net = Net(shows=(LEAF, LEAF), names={2: ["a", "b"]}, places={"a": 0, "b": 0})
    raises("certificate-untrusted", net.connect)
    equal(net.tried, ["a"])


# -- errors of the socket below the stack ---------------------------------------------------------


def test_the_meter_raises_nothing():
    class Broken:
        def __init__(self, number):
            self.number = number

        def readinto(self, buffer, most):
            raise OSError(self.number)

        def write(self, data):
            raise OSError(self.number)

    for number, wanted in ((104, -104), (0, -5)):
        meter = module.Meter(Broken(number))
        meter.left = 1
        equal(meter.readinto(bytearray(4)), wanted)
        equal(meter.write(b"x"), wanted)
        equal((meter.ioctl(4, 0), meter.ioctl(10, 0)), (0, -errno.EINVAL))
