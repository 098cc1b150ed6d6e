"""An agent's token: used, stored, renewed and replaced, on a model of the token server."""

import asyncio
import json

from agent_kit import NOW, Clock, Rig, provisioned
from board_model import DictStore, PowerCut, RootKey
from harness import check, equal, raises
from test_bundle import good
from test_fetch import TERMS
from test_policy import fourth
from time_model import ModelTime
from warden.errors import LinkError, PeerError
from warden.net import link as net_link
from warden.token.commands import run as command
from warden.vault import Vault, records
from warden.wire import cbor
from web_model import Web

SLOW = True
HOUR = 3600000


class Server:
    """A token server: its tokens are t1, t2, … for the clients that it knows.

    clients: client ID → secret. life: seconds. status: of every answer, where it is set.
    """

    def __init__(self):
        self.clients = {b"lock%201": TERMS[4]}
        self.life = 3600
        self.status = b""
        self.count = 0
        self.down = False
        self.memory = True

    def __call__(self, trust, clock, stall_ms):
        """Stand in for the class Link."""
        if not self.memory:
            raise MemoryError
        self.trust = trust
        if self.down:

            async def connect(*_):
                raise LinkError("unreachable")

            made = Web(None)
            made.connect = connect
            return made
        return Web(self._answer)

    def _answer(self, request):
        status, body = b"200 OK", b""
        if self.status:
            status = self.status
        elif b"Authorization: Basic " + self.proof() not in request:
            status = b"401 Unauthorized"
        else:
            self.count += 1
            fields = {"token_type": "Bearer", "expires_in": self.life}
            fields["access_token"] = "t%d" % self.count
            body = json.dumps(fields).encode()
        head = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + body

    secret = b"p%26ss%3Aw%C3%B6rd%00"

    def proof(self):
        import binascii

        return binascii.b2a_base64(b"lock%201:" + self.secret).rstrip()


def bundle():
    made = good()
    made["policy"] = fourth(auth="token", otp=None)
    made["token"] = list(TERMS)
    return made


class Board(Rig):
    """One start of a device with a token, whose tasks are run by hand. ms: its uptime."""

    def __init__(self, server, vault=None):
        super().__init__(provisioned(bundle()) if vault is None else vault)
        self.server = server
        self.ms = 0
        self.agent.now_ms = lambda: self.ms
        self.closed = 0
        self.agent.client.close = self._close
        self.start_without_tasks()
        self.tokens = self.agent.token

    def _close(self):
        self.closed += 1
        self.agent.client.connected = False
        self.agent.session_up.clear()

    def connect(self, refused=False):
        """Make one attempt as the agent does; return the password, or the code of its failure."""
        from warden.agent import link_failure

        agent = self.agent
        agent.session_up.clear()
        saved, net_link.Link = net_link.Link, self.server
        error = None
        try:
            asyncio.run(self.tokens.prepare())
            agent.client.accepted = agent.client.connected = not refused
            if refused:
                error = PeerError("mqtt-refused")
        except PeerError as failure:
            error = failure
        finally:
            net_link.Link = saved
        if error is not None:
            agent.client.connected = False
            self.ceiling = agent.backoff._ceiling_ms
            link_failure.record(agent, (0, 0, 0), error, self.ms)
            return error.code
        return bytes(self.agent.client.password)

    def turn(self, session=None):
        """Let the keeper's task do what is due. session: whether the authority's is up.

        On a clock that stands still: the least pause before its next try is a millisecond.
        """

        async def work():
            if session is not None:
                (self.agent.session_up.set if session else self.agent.session_up.clear)()
            task = asyncio.create_task(self.tokens.run())
            for _ in range(50):
                await asyncio.sleep_ms(0)
            if task.done():
                await task  # raises what ended it
            task.cancel()

        saved, net_link.Link = net_link.Link, self.server
        try:
            with ModelTime():
                asyncio.run(work())
        finally:
            net_link.Link = saved

    def stored(self):
        """Return the stored token, or None."""
        vault = self.agent.vault
        return records.load(vault, "token_now")[2] if "token_now" in vault.names() else None

    def order(self, **args):
        """Run the authority's command and what follows its reply."""
        result = command(self.agent, args)
        after, self.agent.after_reply = self.agent.after_reply, None
        if after is not None:
            asyncio.run(after(self.agent))
        return result


def reopened(vault):
    again = Vault(vault.store, RootKey())
    again.open()
    return again


def writes(board):
    """Return how often a token was written."""
    return len([1 for _, name in board.agent.vault.store.log if name.startswith("token_now.")])


def test_a_token_is_fetched_used_and_stored():
    board = Board(Server())
    equal((board.connect(), board.stored()), (b"t1", None))
    # The broker took it, but no session proved the clock yet.
    board.turn(False)
    equal(board.stored(), None)
    board.turn(True)
    equal((board.stored(), board.server.count), (b"t1", 1))
    # The next connection, and the next start, use the same one; nothing is written.
    count = writes(board)
    equal(board.connect(), b"t1")
    board.turn(True)
    again = Board(board.server, reopened(board.agent.vault))
    equal((again.connect(), again.server.count), (b"t1", 1))
    again.turn(True)
    equal((count, writes(again)), (1, 1))


def test_without_a_policy_for_it_nothing_is_loaded():
    import sys

    def loaded():  # by parts of a name: the build for boards gives these modules others
        return [one for one in sys.modules if one.startswith("warden") and "token" in one]

    for name in loaded():
        del sys.modules[name]
    rig = Rig()
    rig.start_without_tasks()
    equal(rig.agent.token, None)
    equal(loaded(), [])
    raises("unknown-command", rig.agent.run_authority_command, "token", {})


def test_it_is_renewed_before_its_end():
    spread = set()
    for _ in range(20):
        board = Board(Server())
        board.connect()
        board.turn(True)
        first = board.tokens._renew_ms
        check(HOUR * 7 // 10 <= first < HOUR * 9 // 10)
        spread.add(first)
        board.ms = first - 1000
        board.turn()
        equal((board.closed, board.server.count), (0, 1))
        board.ms = first
        board.turn()
        # The new one is there before the connection is closed, and is used on the next one.
        equal((board.closed, board.server.count), (1, 2))
        equal(board.connect(), b"t2")
        equal(board.stored(), b"t1")
        board.turn(True)
        equal(board.stored(), b"t2")
    check(len(spread) > 10, "the spread of a fleet's renewals")


def test_a_renewal_is_no_incident():
    from warden.agent import link_failure

    board = Board(Server())
    board.connect()
    board.turn(True)
    board.ms = HOUR
    board.turn()
    link_failure.record(board.agent, (0, 0, 0), LinkError("link-closed"), 0)
    equal(board.incidents(), [])
    board.connect()
    link_failure.record(board.agent, (0, 0, 0), LinkError("link-closed"), 0)
    equal([one["code"] for one in board.incidents()], ["link-closed"])


def test_a_server_that_is_away():
    """The old token is good for as long as it lives; then the device waits as for a broker."""
    board = Board(Server())
    board.connect()
    board.turn(True)
    board.server.down = True
    board.ms = HOUR * 9 // 10
    board.turn()
    equal(board.closed, 0)
    check("unreachable" in board.codes())
    equal(board.connect(), b"t1")
    board.ms = HOUR - 10000
    equal(board.connect(), "unreachable")
    board.server.down = False
    equal(board.connect(), b"t2")


def test_no_memory_for_a_second_connection():
    board = Board(Server())
    board.connect()
    board.turn(True)
    board.ms = HOUR * 9 // 10
    board.server.memory = False
    board.turn()
    equal(board.closed, 1)
    board.server.memory = True
    equal(board.connect(), b"t2")
    # Without the server meanwhile: the old one goes on.
    board.turn(True)
    board.ms = HOUR * 19 // 10
    board.server.memory = False
    board.turn()
    board.server.memory, board.server.down = True, True
    board.ms = board.tokens._ends_ms - 60000
    board.incidents()
    equal(board.connect(), b"t2")
    equal([one["code"] for one in board.incidents()], ["unreachable"])


def test_a_refused_token_is_replaced_once():
    board = Board(Server())
    board.connect()
    board.turn(True)
    # The broker no longer takes it: a new one at once.
    equal(board.connect(refused=True), "mqtt-refused")
    equal(board.agent.backoff._ceiling_ms, 1000)
    equal(board.connect(refused=True), "mqtt-refused")
    equal(board.server.count, 2)
    # Refused again: its back end may be away. No third one, and long waits.
    equal(board.agent.backoff._ceiling_ms, 60000)
    for _ in range(5):
        board.connect(refused=True)
    equal(board.server.count, 2)
    equal(board.connect(), b"t2")
    # Once it was accepted, the same again.
    board.agent.session_up.clear()
    from warden.agent import link_failure

    link_failure.record(board.agent, (0, 0, 0), LinkError("link-closed"), 0)
    board.connect(refused=True)
    board.connect(refused=True)
    equal(board.server.count, 3)


def test_refusals_write_nothing():
    board = Board(Server())
    for _ in range(10):
        board.connect(refused=True)
        board.turn(False)
    equal(writes(board), 0)


def test_an_outage_counts_as_no_refusal():
    """CONNACK 3 and a link that ends are no word about the token."""
    board = Board(Server())
    board.connect()
    for error in (LinkError("link-closed"), LinkError("link-timeout"), PeerError("pin-mismatch")):
        equal(board.tokens.failed(error), False)
        equal(board.connect(), b"t1")


def test_a_client_that_the_server_refuses():
    board = Board(Server())
    board.server.secret = b"another"
    equal(board.connect(), "token-refused")
    equal(board.agent.backoff._ceiling_ms, 60000)
    equal([one["code"] for one in board.incidents()], ["token-refused"])


def test_a_short_life_is_not_stored():
    board = Board(Server())
    board.server.life = 1799
    board.connect()
    board.turn(True)
    equal(board.stored(), None)
    # And takes the place of a stored one that has ended.
    board.server.life = 3600
    board.ms = 1799000
    board.connect()
    board.turn(True)
    equal(board.stored(), b"t2")
    board.server.life = 600
    board.ms += HOUR
    board.connect()
    board.turn(True)
    equal(board.stored(), None)


def test_the_clock_of_a_stored_token():
    board = Board(Server())
    board.connect()
    board.turn(True)
    vault = board.agent.vault
    equal(records.load(vault, "token_now")[3], NOW + 3600)

    def later(seconds):
        Clock.time = NOW + seconds
        try:
            made = Board(board.server, reopened(vault))
        finally:
            Clock.time = NOW
        made.clock.time = NOW + seconds
        return made

    equal(later(3500).connect(), b"t1")
    equal(later(3600).connect(), b"t2")
    # A clock that was behind: the session sets it, and the times are counted anew.
    slow = later(0)
    equal(slow.connect(), b"t1")
    check(slow.tokens._renew_ms > 0)
    slow.clock.time = NOW + 3500
    slow.turn(True)
    equal(slow.server.count, 3)


def test_new_terms_prove_themselves():
    board = Board(Server())
    board.connect()
    board.turn(True)
    new = [TERMS[2], TERMS[3], b"new", b"", "basic", None]
    equal(board.order(), {"id": 0, "proved": 0, "pending": False})
    equal(board.order(id=1, terms=new), {"id": 1, "proved": 0, "pending": True})
    equal(board.closed, 1)
    board.server.secret = b"new"
    equal(board.connect(), b"t2")
    equal(records.load(board.agent.vault, "token")[4], TERMS[4])
    board.turn(True)
    equal(records.load(board.agent.vault, "token"), [1, 1] + new)
    equal(board.order(), {"id": 1, "proved": 1, "pending": False})
    equal(board.stored(), b"t2")
    check(("rotated", "token") in board.logged)
    equal(Board(board.server, reopened(board.agent.vault)).connect(), b"t2")


def test_new_terms_that_are_refused():
    new = [TERMS[2], TERMS[3], b"new", b"", "basic", None]
    # By the token server.
    board = Board(Server())
    board.connect()
    board.turn(True)
    board.order(id=1, terms=new)
    equal(board.connect(), b"t1")
    equal(board.order(), {"id": 1, "proved": 0, "pending": False})
    equal([one["code"] for one in board.incidents()], ["token-failed"])
    # By the broker: the old secret gives the next token.
    board = Board(Server())
    board.connect()
    board.turn(True)
    board.order(id=1, terms=new)
    board.server.secret = b"new"
    equal(board.connect(refused=True), "mqtt-refused")
    board.server.secret = Server.secret
    equal(board.connect(), b"t3")
    equal(records.load(board.agent.vault, "token"), TERMS)
    # A server that is away says nothing against them.
    board = Board(Server())
    board.connect()
    board.turn(True)
    board.order(id=1, terms=new)
    board.server.down = True
    equal(board.connect(), b"t1")
    equal(board.order()["pending"], True)


def test_orders_that_are_refused():
    board = Board(Server())
    new = [TERMS[2], TERMS[3], b"new", b"", "basic", None]
    for args, code in (
        ({"id": 1}, "bad-body"),
        ({"id": 1, "terms": new, "x": 1}, "bad-body"),
        ({"id": 1, "terms": new[:5]}, "bad-body"),
        ({"id": 1, "terms": None}, "bad-body"),
        ({"id": -1, "terms": new}, "bad-body"),
        ({"id": 0, "terms": new}, "unexpected"),
        ({"id": "1", "terms": new}, "bad-body"),
        ({"renew": False}, "bad-body"),
        ({"renew": True, "id": 1}, "bad-body"),
        ({"id": 1, "terms": [b"http://a.example/"] + new[1:]}, "https-address"),
    ):
        raises(code, command, board.agent, args)
    board.order(id=5, terms=new)
    raises("unexpected", command, board.agent, {"id": 5, "terms": new})
    raises("unexpected", command, board.agent, {"id": 4, "terms": new})


def test_a_renewal_by_order():
    board = Board(Server())
    board.connect()
    board.turn(True)
    board.order(renew=True)
    board.turn()
    equal((board.closed, board.server.count), (1, 2))
    equal(board.connect(), b"t2")


def test_power_cuts():
    """At each operation of the flash: the old terms or the new ones, and a token of them."""
    new = [TERMS[2], TERMS[3], b"new", b"", "basic", None]

    def story(board):
        board.connect()
        board.turn(True)
        board.order(id=1, terms=new)
        board.server.secret = b"new"
        board.connect()
        board.turn(True)

    files = provisioned(bundle()).store.files
    cuts = 0
    while True:
        vault = Vault(DictStore(files), RootKey())
        vault.open()
        board = Board(Server(), vault)
        vault.store.budget = cuts
        try:
            story(board)
            break
        except PowerCut:
            pass
        cuts += 1
        vault.store.budget = None
        after = Board(Server(), reopened(vault))
        terms = records.load(after.agent.vault, "token")
        check(terms in (TERMS, [1, 1] + new))
        after.server.secret = board.server.secret
        first = after.connect()
        check(first in (b"t1", b"t2"), first)
        check(after.order()["id"] in (0, 1))
    check(cuts > 5, cuts)


def test_bundles():
    from test_bundle import refused

    made = bundle()
    made["policy"] = good()["policy"]
    refused(made)
    made = bundle()
    del made["token"]
    refused(made)
    made = bundle()
    made["token"][6] = "digest"
    refused(made)
    made["token"] = None
    refused(made)
    made = good()
    made["token"] = list(TERMS)
    refused(made)


def test_a_trust_of_its_own():
    made = bundle()
    made["token"][7] = [[b"another"], [b"e" * 32, b"f" * 32]]
    board = Board(Server(), provisioned(made))
    board.connect()
    equal(board.server.trust.pins, [b"e" * 32, b"f" * 32])
    board = Board(Server())
    board.connect()
    equal(board.server.trust.pins, board.agent.trust.pins)
    equal(len(cbor.encode(TERMS)) < 200, True)
