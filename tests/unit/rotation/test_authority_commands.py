"""Authority commands on a device: their effects on sessions, link and vault; deadlines."""

import asyncio

from agent_kit import NOW, Rig, provisioned
from board_model import RootKey
from harness import check, equal, link_failure, raises
from test_bundle import good
from warden.errors import PeerError, StoreError
from warden.vault import Vault, records
from warden.wire import cbor

KEY, PASSWORD = b"K" * 32, b"a new password"
PINS = [bytes(32), b"N" * 32]
TRUST = [[b"certificate"], PINS]


class Verifier:
    leaf = bytes(32)
    pinned = 0
    not_before, not_after = 0, 1 << 40


class Link:
    verifier = Verifier()


class Board(Rig):
    """A device that never runs its tasks: its parts are called by hand."""

    def __init__(self, vault):
        super().__init__(vault)
        self.agent.link = Link()
        self.closed = 0
        self.agent.client.close = self._close

    def _close(self):
        self.closed += 1

    def run(self, command, **args):
        return self.agent.run_authority_command(command, args)

    def password(self):
        return self.agent.client.password

    def sessions(self):
        return [session.appid for session in self.agent.sessions]

    def incidents(self):
        return sorted((body["code"], body["at"]) for body in super().incidents())


def reopened(vault):
    again = Vault(vault.store, RootKey())
    again.open()
    return again


def test_all_parts_at_once():
    vault = provisioned()
    board = Board(vault).start_without_tasks()
    equal(board.sessions(), ["authority", "home"])
    result = board.run("rotate", id=1, password=PASSWORD, trust=TRUST, apps={"home": KEY})
    equal(sorted(result["pending"]), ["app_home", "password", "trust"])
    equal(board.sessions(), ["authority", "home", "home"])
    kids = [session.kid for session in board.agent.sessions]
    equal(len(set(kids)), 3)
    # New pins prove themselves on a connection of their own, once the reply is out.
    equal(board.closed, 0)
    asyncio.run(board.agent.after_reply(board.agent))
    equal(board.closed, 1)


def test_new_pins_must_hold_the_server_of_the_link():
    """Who is at the other end is known of a verified link alone."""
    board = Board(provisioned()).start_without_tasks()

    class Plain:
        verifier = None

    for link in (None, Plain()):
        board.agent.link = link
        raises("bad-body", board.run, "rotate", id=1, trust=TRUST)
    board.agent.link = Link()
    board.run("rotate", id=1, trust=TRUST)


def test_new_pins_without_tls():
    """No server was verified: pins that a renewal of its key waits for are taken as they come."""
    bundle = good()
    terms = {"v": 4, "strict": False, "otp": None, "development": False, "auth": "password"}
    terms.update({"tls": False, "outbox": 0, "outbox_keep": "connection"})
    fields = cbor.decode(bundle["policy"])
    fields.update(terms)
    fields["outbox_drop"] = "oldest"
    bundle["policy"] = cbor.encode(fields)
    board = Board(provisioned(bundle)).start_without_tasks()

    class NoVerifier:
        leaf = b""

    class Bare:
        verifier = NoVerifier()

    board.agent.link = Bare()
    equal(board.run("rotate", id=1, trust=TRUST), {"pending": ["trust"]})


def test_one_part_is_proven_and_another_stays_pending():
    vault = provisioned()
    board = Board(vault).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD, apps={"home": KEY})
    waiting = board.agent.rotation
    board.agent.sessions[2].up = True
    board.agent._check_sessions()
    equal(records.load(reopened(vault), "app_home")[0], KEY)
    check(board.agent.rotation is waiting)
    equal(waiting.secrets.pending(), ["password"])


def test_a_deadline_ends_a_connection_that_was_made_with_the_old_secrets():
    for part, closed in (
        ({"password": PASSWORD}, 1),
        ({"trust": TRUST}, 1),
        ({"apps": {"home": KEY}}, 0),
    ):
        board = Board(provisioned()).start_without_tasks()
        board.run("rotate", id=1, deadline=60, **part)
        board.clock.time += 61
        board.agent.rotation.expire()
        equal(board.closed, closed)


def test_a_password_alone_waits():
    board = Board(provisioned()).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD)
    equal(board.agent.after_reply, None)


RELEASE = [b"v" * 16, b"c" * 16, [b"P" * 64]]


def test_release_keys_alone():
    vault = provisioned()
    board = Board(vault).start_without_tasks()
    equal(board.run("rotate", id=1, release=RELEASE), {"pending": []})
    equal(records.load(reopened(vault), "release"), RELEASE)
    equal((board.agent.rotation, board.agent.after_reply), (None, None))
    equal(board.sessions(), ["authority", "home"])


def test_new_release_keys_end_a_download():
    """Its manifest was signed under a key that may have been taken away just now."""

    class Updating:
        gone = 0

        def drop(self):
            self.gone += 1

    board = Board(provisioned()).start_without_tasks()
    board.agent.ota = updating = Updating()
    board.run("rotate", id=1, password=PASSWORD)
    equal(updating.gone, 0)
    board.agent.rotation.secrets._replace(["password"])
    board.run("rotate", id=2, release=RELEASE)
    equal(updating.gone, 1)


def test_new_and_old_secrets_in_turn():
    board = Board(provisioned()).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD, trust=TRUST)
    waiting = board.agent.rotation
    waiting.choose_secrets()
    equal((board.password(), board.agent.trust.pins), (PASSWORD, PINS))
    check(waiting.failed(link_failure("mqtt-refused")))
    waiting.choose_secrets()
    check(board.password() != PASSWORD)
    equal(board.agent.trust.pins, PINS)
    check(waiting.failed(link_failure("pin-mismatch")))
    waiting.choose_secrets()
    check(board.agent.trust.pins != PINS)
    check(not waiting.failed(link_failure("unreachable")))


def test_a_session_under_the_new_key():
    vault = provisioned()
    board = Board(vault).start_without_tasks()
    board.run("rotate", id=1, apps={"home": KEY})
    old, new = board.agent.sessions[1:]
    waiting = board.agent.rotation
    old.up = new.up = True
    board.agent._check_sessions()
    # Its keys are wiped, and nothing looks at it again.
    check(not old.up)
    equal(waiting._new, [])
    equal(board.agent.sessions[1:], [new])
    equal(records.load(reopened(vault), "app_home")[0], KEY)
    equal((board.agent.rotation, vault.get("rotation")), (None, None))
    check(("rotated", "app_home") in board.logged)


def test_the_authoritys_session_proves_the_rest():
    vault = provisioned()
    board = Board(vault).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD, trust=TRUST)
    board.agent.rotation.choose_secrets()
    board.agent.sessions[1].up = True
    board.agent._check_sessions()
    check(vault.get("rotation") is not None)
    board.agent.sessions[0].up = True
    board.agent._check_sessions()
    equal(records.load(reopened(vault), "broker")[3], PASSWORD)
    equal(records.load(vault, "trust"), TRUST)
    equal(board.agent.rotation, None)


def test_a_pending_rotation_at_a_start():
    vault = provisioned()
    Board(vault).start_without_tasks().run("rotate", id=1, password=PASSWORD, apps={"home": KEY})
    board = Board(reopened(vault)).start_without_tasks()
    equal(board.sessions(), ["authority", "home", "home"])
    board.agent.rotation.choose_secrets()
    equal(board.password(), PASSWORD)


def test_a_deadline_while_it_runs():
    vault = provisioned()
    board = Board(vault).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD, trust=TRUST, apps={"home": KEY}, deadline=60)
    waiting = board.agent.rotation
    check(waiting.due_ms(1000) is not None)
    equal((board.closed, board.agent.rotation), (0, waiting))
    board.clock.time += 60
    waiting.due_ms(2000)
    # The old ones are gone, and what stands on them as well.
    equal(board.closed, 1)
    equal(board.agent.rotation, None)
    equal((board.password(), board.agent.trust.pins), (PASSWORD, PINS))
    equal(board.sessions(), ["authority", "home"])
    equal(records.load(reopened(vault), "app_home")[0], KEY)
    expired = [("rotation-expired", at) for at in ("keys", "password", "trust")]
    equal(board.incidents(), expired)


def test_a_deadline_that_passed_before_the_start():
    vault = provisioned()
    Board(vault).start_without_tasks().run(
        "rotate", id=1, password=PASSWORD, apps={"home": KEY}, deadline=60
    )
    again = reopened(vault)
    board = Board(again)
    board.clock.time = NOW + 61
    board.start()
    equal(board.agent.rotation, None)
    equal(board.password(), PASSWORD)
    equal(board.sessions(), ["authority", "home"])
    equal(records.load(again, "app_home")[0], KEY)
    # The session is the one under the new key.
    fresh = Board(reopened(vault)).start_without_tasks()
    equal([s.kid for s in board.agent.sessions], [s.kid for s in fresh.agent.sessions])


def test_a_deadline_while_there_is_no_connection():
    board = Board(provisioned()).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD, deadline=60)
    waiting = board.agent.rotation
    waiting.choose_secrets()
    waiting.failed(link_failure("mqtt-refused"))
    board.clock.time += 60
    # It was the old one's turn.
    waiting.choose_secrets()
    equal((board.password(), board.agent.rotation), (PASSWORD, None))


def test_no_deadline_is_never_due():
    board = Board(provisioned()).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD)
    board.clock.time += 10**8
    equal(board.agent.rotation.due_ms(1000), None)


def test_a_new_secret_that_is_refused_too_often_is_reported():
    board = Board(provisioned()).start_without_tasks()
    board.run("rotate", id=1, password=PASSWORD)
    waiting = board.agent.rotation
    for _ in range(8):
        waiting.choose_secrets()
        waiting.failed(link_failure("mqtt-refused"))
    equal(board.incidents(), [("rotation-failed", "password")])


def test_refused_commands():
    board = Board(provisioned()).start_without_tasks()
    vault = board.agent.vault
    for command, args in (
        ("wipe", {}),
        ("wipe", {"device": "another"}),
        ("wipe", {"device": "lamp-1", "more": 1}),
        ("rotate", {}),
        ("rotate", {"id": 1}),
        ("rotate", {"id": 1, "trust": [[b"ca"], [b"x" * 32, b"y" * 32]]}),
    ):
        check(
            isinstance(
                raises("bad-body", board.agent.run_authority_command, command, args), PeerError
            )
        )
        equal(board.incidents(), [("bad-body", command)])
    equal(
        (board.agent.after_reply, board.agent.rotation, vault.get("rotation")), (None, None, None)
    )


def test_only_the_authority_may():
    board = Board(provisioned()).start_without_tasks()
    find = board.agent.commands.find
    for command in (
        "rotate",
        "wipe",
        "update",
        "policy",
        "unlock",
        "wifi",
        "develop",
        "token",
        "apps",
    ):
        raises("not-allowed", find, "home", command)
        raises("not-allowed", find, "", command)
    check(callable(find("authority", "policy")[0]))
    check(callable(find("authority", "rotate")[0]))
    check(callable(find("authority", "wipe")[0]))


def test_no_application_may_in_plain_mode():
    from warden.session.command import Commands

    commands = Commands()
    commands.grant("authority", ("rotate", "wipe"))
    for command in ("rotate", "wipe"):
        raises("not-allowed", commands.find, "authority", command)
        raises("not-allowed", commands.find, "", command)


def test_wipe():
    vault = provisioned()
    board = Board(vault).start_without_tasks()
    equal(board.run("wipe", device="lamp-1"), {})
    # Not before it was answered.
    check(vault.store.files != {})
    board.agent.sessions[0].up = True
    try:
        asyncio.run(board.agent.after_reply(board.agent))
        check(False, "it went on")
    except StoreError as error:
        equal(error.code, "wiped")
    equal(vault.store.files, {})
    check(not board.agent.sessions[0].up)
    raises("closed", vault.names)
