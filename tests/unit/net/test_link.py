"""The link over stand-ins: a peer that floods, a stack that never finishes, dead addresses."""

import asyncio
import errno
import io
import sys
import time

import harness
from connecting import unload_connecting
from harness import check, equal, raises
from test_verifier import BACKUP, CA, LEAF, PIN
from warden.errors import PeerError
from warden.net import link as module
from warden.net.link import Link
from warden.net.meter import Meter
from warden.net.verifier import TrustAnchors

# What the TLS stack may take at most of one call, and where a stand-in gives up by itself.
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
        self.net.sent += bytes(data)
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
        self.lasts = 0  # ms that a look-up takes
        self.mute = ""  # address of a server that accepts a connection and says nothing
        self.others = {}  # address -> the certificates that another server there shows
        self.asked = []
        self.tried = []
        self.read = 0
        self.worst = 0  # bytes read in one call of the stack
        self.calls = 0
        self.written = self.sent = b""  # to the TLS stack, and to the socket itself
        self.records = []
        self.raws = []
        self.turns = 0

    # -- socket

    def getaddrinfo(self, host, port, family, kind):
        self.asked.append(family)
        module.time.now += self.lasts
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

    def read_all(self):
        """Read whatever the stream gives, as a stack does that drops all of it."""
        buffer = bytearray(1500)
        start = self.read
        self.calls += 1
        while self.read - start < FAR_TOO_MUCH and self.stream.readinto(buffer):
            pass
        self.worst = max(self.worst, self.read - start)

    def is_mute(self):
        return self.mute and self.tried[-1] == self.mute

    def write(self, data):
        if self.greedy:
            self.read_all()
            return None
        if self.is_mute():
            return None
        if not self.shaken and self.shake():
            return 1
        self.records.append(bytes(data))
        self.written += bytes(data)
        return len(data)

    def shake(self):
        """Show the certificates: whether the callback's refusal passes for a byte."""
        self.shaken = True
        shows = self.others.get(self.tried[-1] if self.tried else "", self.shows)
        for at, der in enumerate(shows):
            if self.verify_callback(memoryview(der), len(shows) - 1 - at):
                if not self.passes_on:
                    raise OSError(-9984)
                return True  # as Mbed TLS does under MicroPython, and fails at the next call
        return False

    def readinto(self, view):
        if self.is_mute():
            return None
        if not self.shaken and not self.greedy:
            return 1 if self.shake() else None
        self.read_all()
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
        unload_connecting()
        # Of net/dial.py too, which each connection loads.
        module.time = sys.modules["time"] = Ticks()
        sys.modules["tls"] = sys.modules["socket"] = self
        try:
            asyncio.new_event_loop()
            return asyncio.run(both())
        finally:
            self.ended = module.time.now
            module.time = saved
            del sys.modules["tls"], sys.modules["socket"], sys.modules["time"]

    def connect(self, host="broker.example"):
        return self.run(lambda link: link.connect(host, 1, CONNECT, 1000))


class Watched(Link):
    """A link that waits for a silent address by the clock of the test."""

    async def wait(self, writable, wait_ms):
        if self.raw.silent or (self.raw.net.is_mute() and not writable):
            module.time.now += wait_ms
            return False
        return await super().wait(writable, wait_ms)


class Clock:
    """The verifier's dates are good, and no more is asked for."""

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
            # What was not read yet is told at once, so no task waits for more than a turn.
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


def test_an_open_link_checks_no_more_certificates():
    """And nothing of what opened it stays loaded."""
    net = Net()

    async def connect(link):
        await link.connect("broker.example", 1, CONNECT, 1000)
        equal(link.verifier.pinned, 1)
        equal(net.verify_callback(memoryview(LEAF), 0), 1)
        equal(link.verifier.refusal, "pin-mismatch")

    net.run(connect)
    for name in ("warden.net.dial", "warden.dial"):  # in the build for boards the second
        check(name not in sys.modules, name)


def test_a_stack_without_memory():
    """No other address is tried."""
    net = Net(names={2: ["a", "b"]}, places={"a": 0, "b": 0})

    def wrap_socket(raw, **options):
        raise OSError(errno.ENOMEM)

    net.wrap_socket = wrap_socket
    try:
        net.connect()
        check(False, "connected")
    except MemoryError:
        pass
    equal((net.tried, [raw.closed for raw in net.raws]), (["a"], [1]))
    # In the build for boards it goes with the agent's part (agent/agent.py).
    check(harness.built or "warden.net.failures" not in sys.modules)


def test_what_follows_is_asked_for_after_the_pin_matched():
    """In each hand-shake, and it goes in the record of the first packet."""
    for shows, wanted in (((CA, LEAF), [CONNECT + b"more"]), ((), None), ((LEAF,), None)):
        net = Net(shows=shows)
        asked = []

        async def connect(link, net=net, asked=asked):
            def rest():
                asked.append((link.verifier.pinned, net.records[:]))
                return b"more"

            link.rest = rest
            await link.connect("broker.example", 1, CONNECT, 1000)

        if wanted is None:
            try:
                net.run(connect)
                check(False, "connected")
            except PeerError:
                pass
            equal(asked, [])
        else:
            net.run(connect)
            equal(asked, [(1, [])])
            equal(net.records, wanted)


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
            wait = link.wait

            async def hears_nothing(writable, wait_ms):
                return await wait(True, wait_ms) if writable else False

            link.wait = hears_nothing
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


def test_a_link_without_tls_writes_to_the_socket_itself():
    """What a kind of link does once the connection is open is its own, and not this module's."""
    from warden.net.bare import BareLink

    async def connect(link):
        bare = BareLink(link.trust, link.clock, 1000)
        bare.rest = lambda: b" and a hello"
        await bare.connect("broker.example", 1, CONNECT, 1000)
        equal(bare.tls, bare.raw)

    net = Net()
    net.run(connect)
    equal((net.sent, net.written, net.calls), (CONNECT + b" and a hello", b"", 0))


def test_no_address_answers():
    many = ["p%d" % at for at in range(9)]
    for names, tried in (({2: many, 10: ["b"]}, 5), ({2: ["a"]}, 1), ({}, 0), ({2: [None]}, 0)):
        places = {place: REFUSED for place in many + ["a", "b"]}
        net = Net(names=names, places=places)
        error = raises("unreachable" if tried else "dns-failed", net.connect)
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
        # The last one has half of what is left, too: the rest is for a hand-shake.
        check(net.ended <= 1000 - (1000 >> len(names)) + 100, net.ended)
        check(all(raw.closed for raw in net.raws))


def test_a_server_that_accepts_and_says_nothing_leaves_time_for_the_next():
    net = Net(names={2: ["a", "b"]}, places={"a": 0, "b": 0})
    net.mute = "a"
    net.connect()
    equal((net.tried, net.written), (["a", "b"], CONNECT))
    # One alone has all of the time.
    net = Net(names={2: ["a"]})
    net.mute = "a"
    raises("link-timeout", net.connect)
    check(net.ended >= 900, net.ended)


def test_an_address_is_looked_up_in_its_own_family():
    for host, families in (("10.0.0.7", [2]), ("fd00::7", [10]), ("7.example", [2, 10])):
        net = Net(names={})
        raises("dns-failed", net.connect, host)
        equal(net.asked, families)


def test_a_name_server_that_does_not_answer_is_asked_once():
    """Each look-up holds the loop until it gives up; one that says no is quick."""
    for lasts, families in ((7000, [2]), (1900, [2, 10])):
        net = Net(names={10: ["a"]})
        net.lasts = lasts
        if lasts < 2000:
            net.run(lambda link: link.connect("broker.example", 1, CONNECT, 10000))
        else:
            raises("dns-failed", net.connect)
        equal(net.asked, families)


def test_another_server_at_one_address_does_not_hide_the_right_one():
    net = Net(names={2: ["a", "b"]}, places={"a": 0, "b": 0})
    net.others = {"a": (LEAF, LEAF)}
    net.connect()
    equal((net.tried, net.written), (["a", "b"], CONNECT))
    check(net.raws[0].closed)


def test_a_refusal_is_told_before_a_silence():
    """With the certificates that belong to it."""
    for places in ({"a": 0, "b": REFUSED}, {"a": REFUSED, "b": 0}, {"a": 0, "b": SILENT}):
        net = Net(shows=(LEAF, LEAF), names={2: ["a"], 10: ["b"]}, places=places)
        seen = []

        async def connect(link, seen=seen):
            try:
                await link.connect("broker.example", 1, CONNECT, 1000)
            finally:
                seen.append(link.verifier)

        raises("certificate-untrusted", net.run, connect)
        equal((net.tried, seen[0].refusal), (["a", "b"], "certificate-untrusted"))


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
        meter = Meter(Broken(number))
        meter.left = 1
        equal(meter.readinto(bytearray(4)), wanted)
        equal(meter.write(b"x"), wanted)
        equal((meter.ioctl(4, 0), meter.ioctl(10, 0)), (0, -errno.EINVAL))
