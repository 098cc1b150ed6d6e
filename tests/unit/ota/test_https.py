"""The web client against hostile servers: it accepts only the range that it requested."""

import asyncio
import time

import web_model
from harness import check, equal, has_text, raises
from warden.net import http
from warden.ota import https

SLOW = True

TOTAL = 40000
IMAGE = bytes([at * 7 & 255 for at in range(TOTAL)])
ADDRESS = b"https://updates.example:8443/app-2.img"
RANGE = 16384


class Web(web_model.Web):
    """A Link to a server that answers each request with answer(first, last, request).

    dribble: most bytes of one read
    """

    def __init__(self, answer, dribble=100000):
        super().__init__(answer, dribble)
        self.connections = 0
        self.pauses = []

    def _request(self, data):
        data = bytes(data)
        self.requests.append(data)
        span = data.split(b"Range: bytes=")[1].split(b"\r\n")[0]
        first, last = [int(part) for part in span.split(b"-")]
        self.out += self.answer(first, last)

    async def connect(self, host, port, first, deadline_ms):
        self.place = (host, port)
        self.connections += 1
        self.out = b""
        self.open = True
        self._request(first)

    async def send(self, data):
        self._request(data)


def head(first, last, status=b"HTTP/1.1 206 Partial Content", total=TOTAL, more=b""):
    span = "%d-%d/%d" % (first, last, total)
    lines = status + b"\r\nServer: nginx/1.22.1\r\nContent-Range: bytes " + span.encode()
    return (
        lines + b"\r\nContent-Length: " + str(last + 1 - first).encode() + b"\r\n" + more + b"\r\n"
    )


def good(first, last):
    return head(first, last) + IMAGE[first : last + 1]


def always(data):
    return lambda first, last: data


def fetch(web, at=0, size=1024, total=TOTAL):
    """All of it, in pieces. A pause takes no time here, and is written down: web.pauses."""

    async def pause(ms):
        web.pauses.append(ms)

    stream = https.Stream(web, ADDRESS, at, total)
    got = bytearray()
    sleep, asyncio.sleep_ms = asyncio.sleep_ms, pause
    try:
        while at < total:
            view = memoryview(bytearray(min(size, total - at)))
            asyncio.run(stream.fill(view))
            got += view
            at += len(view)
    finally:
        asyncio.sleep_ms = sleep
        stream.close()
        equal(web.open, False)
        web.whole_ranges = stream.ranges
    return bytes(got)


def refused(code, answer, dribble=100000):
    web = Web(answer, dribble)
    raises(code, fetch, web)
    equal(web.open, False)
    return web


def changed(old, new):
    """A good answer with something else in its headers."""

    def answer(first, last):
        start, end, body = good(first, last).partition(b"\r\n\r\n")
        made = (start + end).replace(old, new)
        check(made != start + end)
        return made + body

    return answer


def test_ranges_over_one_connection():
    for size, dribble in ((1024, 100000), (1000, 7), (4096, 1), (40000, 333)):
        web = Web(good, dribble)
        check(fetch(web, 0, size) == IMAGE)
        equal((web.connections, len(web.requests), web.place), (1, 3, ("updates.example", 8443)))
        equal(web.whole_ranges, 3)
        check(b"Range: bytes=32768-39999\r\n" in web.requests[2])
    want = b"GET /app-2.img HTTP/1.1\r\nHost: updates.example:8443\r\nRange: bytes=16384-32767\r\n"
    check(web.requests[1].startswith(want), str(web.requests[1]))
    # From the middle, as after a cut.
    web = Web(good)
    check(fetch(web, 12345) == IMAGE[12345:])
    check(b"bytes=12345-28728\r\n" in web.requests[0])


def test_addresses():
    equal(https.address(b"https://a.example/x"), ("a.example", 443, b"/x"))
    equal(https.address(b"https://127.0.0.1:8443/"), ("127.0.0.1", 8443, b"/"))
    for bad in (
        b"",
        b"mqtt:app",
        b"http://a.example/x",
        b"https:///x",
        b"https://a.example",
        b"https://user@a.example/x",
        b"https://a.example:0/x",
        b"https://a.example:65536/x",
        b"https://a.example:+80/x",
        b"https://a.example:/x",
        b"https://a b/x",
        b"https://a.example/x y",
        b"https://a.example/x\r\nHost: b.example",
        b"https://a.example/x#y",
        b"https://a.example/\xc3\xa4",
        b"https://" + b"a" * 254 + b"/x",
    ):
        raises("https-address", https.address, bad)


def test_addresses_at_their_limits():
    for good in (
        (b"https://" + b"a" * 253 + b"/x", ("a" * 253, 443, b"/x")),
        (b"https://a/x", ("a", 443, b"/x")),
        (b"https://a.example:1/", ("a.example", 1, b"/")),
        (b"https://a.example:65535/!~", ("a.example", 65535, b"/!~")),
        (b"https://a.example:00443/x", ("a.example", 443, b"/x")),
        (b"https://A-9.example/a/b?c=d:e", ("A-9.example", 443, b"/a/b?c=d:e")),
    ):
        equal(https.address(good[0]), good[1])
    for bad in (
        b"https://a.example:000443/x",
        b"https://a_b.example/x",
        b"https://a.example/\x7f",
        b"https://a.example/\x1f",
        b"https://a.example/\"'x y",
        b"https://[::1]/x",
        b"httpsx//a.example/x",
        b"HTTPS://a.example/x",
    ):
        raises("https-address", https.address, bad)


def lines_of(*lines):
    """The headers of a good answer, and these."""
    more = b"".join([line + b"\r\n" for line in lines])
    return lambda first, last: head(first, last, more=more) + IMAGE[first : last + 1]


def taken(answer):
    equal(fetch(Web(answer), total=TOTAL), IMAGE)


def test_limits_of_the_headers():
    """As much as is taken, and one more."""
    # Around the size of the buffer, and of two; a line of 2 KB as web applications send them.
    for size in (507, 508, 509, 510, 511, 512, 1017, 1018, 1019, 1020, 2045):
        for dribble in (100000, 511):
            equal(fetch(Web(lines_of(b"X: " + b"f" * size), dribble)), IMAGE)
    # Byte by byte, the buffer fills to its end once and again: a second each.
    for size in (512, 1020):
        equal(fetch(Web(lines_of(b"X: " + b"f" * size), 1)), IMAGE)
    # Three lines of head() and the empty one among them.
    taken(lines_of(*[b"X: 1"] * 44))
    refused("https-malformed", lines_of(*[b"X: 1"] * 45))

    def answer(size, count):
        """Return an answer with `count` long lines.

        They make the first answer, up to its body, exactly this size; later answers have none.
        """
        left = size - len(head(0, 16383))
        lines = [b"X: " + b"f" * 395] * (count - 1)
        lines.append(b"X: " + b"f" * (left - 400 * (count - 1) - 5))
        first_lines = lines_of(*lines)
        return lambda first, last: (good if first else first_lines)(first, last)

    for count in (1, 20):
        taken(answer(8192, count))
        refused("https-malformed", answer(8193, count))


def test_long_lines_that_decide():
    """What says which range it is, and in what form, is not judged by its beginning."""
    for name in (
        b"Content-Range",
        b"content-length",
        b"Transfer-Encoding",
        b"Content-Encoding",
        b"Connection",
    ):
        refused("https-malformed", lines_of(name + b": " + b"f" * 600))
    refused("https-malformed", lines_of(b"f" * 600 + b": 1"))
    refused("https-malformed", changed(b"nginx/1.22.1\r\n", b"f" * 600 + b"\n"))


def test_interim_answers():
    """RFC 9110 §15.2: any number of them stands in front of the answer, and none is one."""
    for interim in (
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
        b"HTTP/1.1 102\r\nContent-Length: 5\r\n\r\n" * 3,
    ):
        web = Web(lambda first, last, interim=interim: interim + good(first, last))
        equal(fetch(web), IMAGE)
        equal(web.connections, 1)
    refused("https-status", always(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"))
    refused("https-status", always(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n\r\n"))
    refused("https-malformed", always(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000))
    refused("https-malformed", always(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 206 OK\r\n\r\n"))


def test_forms_of_an_answer():
    """What a good server may say in another way."""
    for old, new in (
        (b"206 Partial Content", b"206"),
        (b"206 Partial Content", b"206 "),
        (b"Content-Range: ", b"CONTENT-RANGE:\t "),
        (b"Content-Length: ", b"content-length:"),
        (b"Server: nginx/1.22.1", b"Server: \t"),
        (b"Server: nginx/1.22.1", b"Connection: Keep-Alive"),
    ):
        web = Web(lambda first, last, old=old, new=new: good(first, last).replace(old, new, 1))
        equal(fetch(web), IMAGE)
        equal((web.connections, web.pauses), (1, []))
    for old, new in (
        (b"206 Partial", b"206-Partial"),
        (b"HTTP/1.1", b"HTTP/1.2"),
        (b"HTTP/1.1 206", b"HTTP/1.1  206"),
        (b"206 Partial", b"x06 Partial"),
        (b"206 Partial", b"20x Partial"),
        (b"Server: nginx/1.22.1\r\n", b"Server: nginx/1.22.1\n"),
        (b"Server: nginx/1.22.1\r\n", b"\n"),
    ):
        refused("https-malformed", changed(old, new))


def test_another_status():
    for status in (
        b"200 OK",
        b"301 Moved Permanently",
        b"404 Not Found",
        b"416 Range",
    ):
        web = refused("https-status", changed(b"206 Partial Content", status))
        equal((web.connections, len(web.requests)), (1, 1))
        has_text(raises("https-status", fetch, web), "answers " + status[:3].decode())
    # All of the image at once, and no end to it: nothing of it is read.
    web = refused("https-status", lambda first, last: b"HTTP/1.1 200 OK\r\n\r\n" + IMAGE * 3)
    check(len(web.out) > len(IMAGE))


def test_another_range():
    for old, new in (
        (b"bytes 0-16383/40000", b"bytes 1-16384/40000"),
        (b"bytes 0-16383/40000", b"bytes 0-16384/40000"),
        (b"bytes 0-16383/40000", b"bytes 0-16383/40001"),
        (b"bytes 0-16383/40000", b"bytes 0-16383/*"),
        (b"bytes 0-16383/40000", b"bytes 00-16383/40000"),
        (b"Content-Range", b"X-Range"),
        (b"Content-Length: 16384", b"Content-Length: 16385"),
        (b"Content-Length: 16384", b"Content-Length: 4294967296"),
        (b"Content-Length: 16384", b"Content-Length: +16384"),
        (b"Content-Length: 16384", b"Content-Length: 16384\r\nContent-Length: 16384"),
        (b"Content-Length: 16384", b"Content-Length: 16384\r\ncontent-length: 1"),
        (b"Content-Length", b"X-Length"),
    ):
        refused("https-range", changed(old, new))


def test_a_body_in_another_form():
    for line in (
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"transfer-encoding: identity",
    ):
        refused("https-malformed", changed(b"Server: nginx/1.22.1", line))


def test_a_body_that_is_longer():
    """The range is taken as far as it goes; what follows is no answer to the next question."""
    for dribble in (100000, 64):
        web = refused("https-malformed", lambda first, last: good(first, last) + b"x", dribble)
        equal((web.connections, len(web.requests)), (1, 2))


def test_no_http():
    for answer in (
        b"HTTP/1.0 206 OK\r\n\r\n",
        b"HTTP/1.1 2O6 OK\r\n\r\n",
        b"HTTP/1.1 2066\r\n\r\n",
        b"\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 206 OK\nContent-Length: 1\n\n",
        b"HTTP/1.1 206 OK\r\nnocolon\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nX\tY: 1\r\n\r\n",
        b"HTTP/1.1 206 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Length : 16384\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nX: 1\r\n folded\r\n\r\n",
    ):
        refused("https-malformed", always(answer))


def test_headers_without_end():
    one = b"X-Filler: " + b"f" * 100 + b"\r\n"
    for filler in (one * 1000, b"A:\r\n" * 20000, b"X: " + b"f" * 100000):
        web = refused("https-malformed", always(b"HTTP/1.1 206 OK\r\n" + filler))
        check(len(web.out) > len(filler) - 9000)


def test_headers_that_are_too_much():
    """Few lines, each of a length that would pass."""
    more = b"".join([b"X-%d: " % at + b"f" * 400 + b"\r\n" for at in range(9)])
    check(fetch(Web(lambda first, last: head(first, last, more=more) + IMAGE[first : last + 1])))
    refused("https-malformed", lambda first, last: head(first, last, more=more * 3))


def test_a_connection_that_ends():
    """Anew, from where it stands; three times without a whole range."""
    cuts = [20000, 900, 18000]

    def answer(first, last):
        whole = good(first, last)
        return whole[: cuts.pop(0)] if cuts else whole

    web = Web(answer)
    check(fetch(web) == IMAGE)
    # Twice for each range: none of them is the third time.
    cuts = [900, 900, 90000, 900, 900, 90000, 900, 900]
    check(fetch(Web(answer)) == IMAGE)
    web = refused("link-closed", lambda first, last: good(first, last)[:5000])
    # A pause before each but the first: a server that is down is not asked without end.
    equal((web.connections, web.pauses), (3, [1000, 1000]))
    spans = [int(one.split(b"bytes=")[1].split(b"-")[0]) for one in web.requests]
    check(spans[0] < spans[1] < spans[2], str(spans))


def test_a_server_that_closes():
    web = Web(
        lambda first, last: (
            head(first, last, more=b"Connection: close\r\n") + IMAGE[first : last + 1]
        )
    )
    check(fetch(web) == IMAGE)
    # It was told in time: nothing failed, and nothing waits.
    equal((web.connections, web.pauses), (3, []))


def test_what_closes_a_connection():
    """RFC 9110 section 7.6.1: of a list of options only `close` ends it (Apache sends Upgrade)."""
    for more, connections in (
        (b"Upgrade: h2\r\nConnection: Upgrade\r\n", 1),
        (b"Connection: Upgrade, Keep-Alive\r\n", 1),
        (b"Connection: \r\n", 1),
        (b"Connection: x-close, closed\r\n", 1),
        (b"Connection: CLOSE\r\n", 3),
        (b"Connection: Upgrade ,\tclose\r\n", 3),
        (b"Connection: close\r\nConnection: keep-alive\r\n", 3),
    ):
        web = Web(
            lambda first, last, more=more: head(first, last, more=more) + IMAGE[first : last + 1]
        )
        check(fetch(web) == IMAGE)
        equal((web.connections, web.pauses), (connections, []), str(more))


def test_a_server_that_closes_once():
    """What it said for one answer does not count for the next."""

    def answer(first, last):
        more = b"" if first else b"Connection: close\r\n"
        return head(first, last, more=more) + IMAGE[first : last + 1]

    web = Web(answer)
    check(fetch(web) == IMAGE)
    equal((web.connections, web.pauses), (2, []))


def test_a_slow_drip():
    """A byte now and then keeps no range open longer than its deadline."""

    class Slow(Web):
        async def wait_readable(self, wait_ms):
            self.waits.append(wait_ms)
            self.now += 4000
            return True

        def receive_into(self, view):
            if self.now == self.read:
                return None
            self.read = self.now
            return super().receive_into(view)

    class Time:
        @staticmethod
        def ticks_ms():
            return web.now

        ticks_diff = staticmethod(lambda a, b: a - b)

    web = Slow(good, 1)
    web.now = web.read = 0
    web.waits = []
    http.time = Time
    try:
        raises("link-timeout", fetch, web)
    finally:
        http.time = time
    equal((web.connections, max(web.waits)), (3, 20000))
    # At its end it is over, and no task waits.
    equal((web.now, min(web.waits)), (3 * 20000, 4000))


class Update:
    """Two images of the same bytes in a row; a None between them stands for work to do first."""

    def __init__(self, ends_at=None):
        self.state = "Downloading"
        self.name, self.at = "app", 0
        self.busy = 2
        self.got = []
        self.now = []
        self.ends_at = ends_at
        self.chunks = 0
        self.download = self

    def want(self):
        if self.busy:
            return None
        return self.chunks, self.name, self.at, min(1024, TOTAL - self.at)

    def step(self):
        self.busy -= 1

    def source(self):
        return b"https://updates.example:8443/" + self.name.encode(), TOTAL

    def tick(self, now):
        self.now.append(now)
        if self.at == self.ends_at:
            self.state = "Aborted"

    def chunk(self, number, data, now):
        equal((number, now), (self.chunks, self.now[-1]))
        check(self.state == "Downloading")
        check(bytes(data) == IMAGE[self.at : self.at + len(data)])
        self.chunks += 1
        self.at += len(data)
        if self.at == TOTAL:
            self.got.append(self.name)
            self.name, self.at, self.busy = "web", 0, 1
            if len(self.got) == 2:
                self.state = "Verifying"


def brought(update, answer=good):
    """Return the links of a download: one at a time is open, and none at the end.

    update.pauses: how long other tasks ran
    """
    links, update.pauses = [], []

    async def pause(ms):
        update.pauses.append(ms)

    def connection():
        check(not any([link.open for link in links]))
        links.append(Web(answer))
        return links[-1]

    sleep, asyncio.sleep_ms = asyncio.sleep_ms, pause
    try:
        asyncio.run(https.fetch(update, connection, lambda: 77))
    finally:
        asyncio.sleep_ms = sleep
        check(not any([link.open for link in links]))
    return links


def test_whatever_the_update_wants():
    update = Update()
    links = brought(update)
    equal((update.got, update.state, update.busy), (["app", "web"], "Verifying", 1))
    # One connection for each image, kept for all of it.
    equal([len(link.requests) for link in links], [3, 3])
    equal([link.requests[0].split(b" ")[1] for link in links], [b"/app", b"/web"])
    equal(set(update.now), {77})
    # Other tasks run after each step, which may hash for long, and after each chunk: a server may
    # always be ahead.
    chunks = -(-TOTAL // 1024)
    equal(update.pauses, [0] * (3 + 2 * chunks))
    # From where it stands.
    update = Update()
    update.at = 5000
    check(b"bytes=5000-21383\r\n" in brought(update)[0].requests[0])


def test_a_download_that_ends_meanwhile():
    """Its time is over, or it was aborted while the server sent: what came is not handed over."""
    update = Update(ends_at=3072)
    links = brought(update)
    equal((update.state, update.chunks, len(links), links[0].open), ("Aborted", 3, 1, False))
    # Or before it began.
    update = Update()
    update.state = "Aborted"
    equal(brought(update), [])


def test_a_fetch_that_fails_leaves_no_connection():
    update = Update()
    raises("https-status", brought, update, changed(b"206", b"404"))
    equal((update.state, update.chunks), ("Downloading", 0))
