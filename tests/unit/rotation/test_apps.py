"""Applications added, changed and removed by the authority, with power cuts at each operation."""

import asyncio

from agent_kit import provisioned
from board_model import RootKey
from harness import check, equal, raises
from test_bundle import KEY, OTHER_KEY, good
from trial_kit import OrderedRig, cut_everywhere, reopened
from warden.errors import PeerError
from warden.session.inbox import Call
from warden.vault import Vault, records
from warden.wire import cbor

NEW, NEWER = b"N" * 32, b"R" * 32
HOME = [KEY, False, ["set_relay", "blink"]]
AUTHORITY = [OTHER_KEY, True, []]


class Board(OrderedRig):
    command = "apps"

    def __init__(self, vault=None):
        super().__init__(provisioned() if vault is None else vault)
        self.started = []
        self.start_without_tasks()
        self.agent.client.connected = True

    def table(self):
        """Return {application ID: its record}."""
        vault = self.vault
        return {n[4:]: records.load(vault, n) for n in vault.names() if n.startswith("app_")}

    def sessions(self):
        return [session.appid for session in self.agent.sessions]

    def session(self, appid):
        (found,) = [one for one in self.agent.sessions if one.appid == appid]
        return found


def put(id, app="dash", key=NEW, commands=("set_relay",)):
    return {"id": id, "app": app, "key": key, "commands": list(commands)}


def grant(id, commands, app="home"):
    return {"id": id, "app": app, "key": None, "commands": list(commands)}


def remove(id, app="home"):
    return {"id": id, "app": app, "key": None, "commands": None}


def code_of(board, appid, command):
    """Return the code that refuses a command: unknown-command where it is granted."""
    try:
        board.agent.commands.find(appid, command)
    except PeerError as error:
        return error.code
    return ""


def test_the_state():
    board = Board()
    equal(board.run(), {"id": 0, "apps": ["authority", "home"], "up": []})
    board.session("home").up = True
    equal(board.run()["up"], ["home"])


def test_an_application_is_added():
    board = Board()
    state = board.run(**put(1))
    equal((state["id"], state["apps"]), (1, ["authority", "dash", "home"]))
    equal(
        board.table(), {"home": HOME, "authority": AUTHORITY, "dash": [NEW, False, ["set_relay"]]}
    )
    equal(code_of(board, "dash", "set_relay"), "unknown-command")
    equal(code_of(board, "dash", "blink"), "not-allowed")
    # It says hello at once, and does so at the next start.
    check(board.session("dash").tick(board.agent.now_ms())[0] == "hello")
    check(("apps-changed", "dash") in board.logged)
    again = Board(reopened(board.vault))
    equal(sorted(again.sessions()), ["authority", "dash", "home"])
    equal(again.session("dash").kid, board.session("dash").kid)


def test_an_application_is_removed_with_its_session():
    board = Board()
    session = board.session("home")
    session.up = True
    dropped = []
    session.drop = lambda: dropped.append(1)
    state = board.run(**remove(1))
    equal(state, {"id": 1, "apps": ["authority"], "up": []})
    equal((dropped, board.sessions()), ([1], ["authority"]))
    equal(board.table(), {"authority": AUTHORITY})
    equal(code_of(board, "home", "set_relay"), "not-allowed")
    check(board.agent.alone)
    # Removed already, or never there: the device has it not, which is what was asked for.
    equal(board.run(**remove(2, "stranger"))["id"], 2)


def test_a_key_is_replaced_at_once():
    board = Board()
    old = board.session("home")
    board.run(**put(1, "home", NEW, ["blink"]))
    equal(board.table()["home"], [NEW, False, ["blink"]])
    check(board.session("home") is not old and board.session("home").kid != old.kid)
    equal(code_of(board, "home", "set_relay"), "not-allowed")


def test_rights_are_narrowed_and_widened():
    board = Board()
    session = board.session("home")
    starts = []
    session.start = starts.append
    board.run(**grant(1, ["set_relay", "blink", "open"]))
    equal((board.table()["home"], starts), ([KEY, False, ["set_relay", "blink", "open"]], []))
    equal(code_of(board, "home", "open"), "unknown-command")
    # A command that waits is not run when it was taken away.
    board.run(**grant(2, ["open"]))
    equal(len(starts), 1)
    equal(code_of(board, "home", "blink"), "not-allowed")
    board.run(**grant(3, []))
    equal(code_of(board, "home", "open"), "not-allowed")
    equal(board.table()["home"], [KEY, False, []])


def test_a_command_that_waits_is_not_run_any_more():
    for order in (remove(1), put(1, "home", NEW), grant(1, ["blink"])):
        board = Board()
        session = board.session("home")
        session._keys = Keys()
        call = Call((None, False), {}, "set_relay", None, "home", session, None)
        equal(call.late(0), "")
        board.run(**order)
        equal(call.late(0), "old-session")


class Keys:
    sid = b"12345678"

    def close(self):
        pass


def test_the_authority_stays():
    board = Board()
    for order in (
        remove(1, "authority"),
        put(1, "authority", NEW),
        grant(1, ["blink"], "authority"),
    ):
        raises("not-allowed", lambda order=order: board.run(**order))
    equal(board.table(), {"home": HOME, "authority": AUTHORITY})
    # What it may give is the vault's word too, and no application becomes an authority.
    board.run(**put(1))
    equal([name for name, record in board.table().items() if record[1]], ["authority"])


def test_refused():
    board = Board()
    for order in (
        {"id": 1},
        {"id": 1, "app": "dash"},
        {"id": 1, "app": "dash", "key": None, "more": 1},
        dict(remove(1), more=1),
        remove(0),
        remove(1 << 32),
        remove(True),
        remove("1"),
        remove(1, ""),
        remove(1, "a/b"),
        remove(1, "x" * 33),
        remove(1, 5),
        put(1, key=b"short"),
        put(1, key="x" * 32),
        put(1, key=KEY),  # of another application
        put(1, key=OTHER_KEY),
        put(1, commands=["UPPER"]),
        put(1, commands=["c%d" % i for i in range(33)]),
        dict(put(1), commands=None),
        dict(put(1), commands="set_relay"),
        grant(1, ["blink"], "stranger"),
        grant(1, [5]),
    ):
        check(isinstance(raises("bad-body", lambda order=order: board.run(**order)), PeerError))
        equal([(i["code"], i["at"]) for i in board.incidents()], [("bad-body", "apps")])
    equal(board.table(), {"home": HOME, "authority": AUTHORITY})
    equal(board.run()["id"], 0)


def test_at_most_eight_with_the_authority():
    board = Board()
    for i in range(6):
        board.run(**put(i + 1, "a%d" % i, bytes([i]) * 32))
    raises("bad-body", lambda: board.run(**put(9, "ninth")))
    board.run(**put(9, "a0", NEW))
    board.run(**remove(10, "a1"))
    board.run(**put(11, "ninth", NEWER))
    equal(len(board.table()), 8)


def test_an_order_is_taken_once():
    board = Board()
    board.run(**put(5))
    board.session("dash").up = True
    # Its reply was lost.
    equal(board.run(**put(5)), {"id": 5, "apps": ["authority", "dash", "home"], "up": ["dash"]})
    raises("unexpected", lambda: board.run(**remove(4)))
    equal(board.table()["dash"][0], NEW)


def rotating(**parts):
    """Return a device with a rotation of the key of `home` on its way."""
    board = Board()
    args = {"id": 1, "apps": {"home": NEW}}
    args.update(parts)
    board.agent.run_authority_command("rotate", args)
    equal(board.sessions(), ["authority", "home", "home"])
    return board


def test_a_rotation_of_the_application_ends_with_it():
    for order in (remove(1), put(1, "home", NEWER)):
        board = rotating()
        board.run(**order)
        equal((board.vault.get("rotation"), board.agent.rotation), (None, None))
        equal(board.sessions(), ["authority"] + ["home"] * (order["key"] is not None))
        Board(reopened(board.vault))
        board = rotating(password=b"a new password")
        board.run(**order)
        equal(board.agent.rotation.secrets.pending(), ["password"])
        again = Board(reopened(board.vault))
        equal(again.agent.rotation.secrets.pending(), ["password"])
        again.agent.rotation.secrets.choose("password")
        again.session("authority").up = True
        again.agent._check_sessions()
        equal(again.vault.get("rotation"), None)


def test_a_rotation_of_others_goes_on():
    board = rotating()
    board.run(**put(1))
    board.run(**grant(2, ["blink"]))
    equal(board.agent.rotation.secrets.pending(), ["app_home"])
    board.agent.sessions[2].up = True
    board.agent._check_sessions()
    equal(board.table()["home"], [NEW, False, ["blink"]])


def outbox_board(vault=None, store=None):
    bundle = good()
    fields = cbor.decode(bundle["policy"])
    fields.update({"v": 4, "strict": False, "otp": None, "development": False})
    fields.update({"auth": "password", "tls": True, "outbox": 4})
    fields.update({"outbox_keep": "reboot", "outbox_drop": "oldest"})
    bundle["policy"] = cbor.encode(fields)
    bundle["apps"].append(["zoo", b"Z" * 32, False, []])
    return Board(provisioned(bundle, store) if vault is None else vault)


def queue(board, to=None):
    equal(asyncio.run(board.agent.delivery.publish("t", {"n": 1}, to, False)), "queued")


def lacking(board):
    """Return, for each event in the outbox, the applications that it waits for."""
    delivery = board.agent.delivery
    return [
        [way.appid for way in delivery._ways if entry.lacking & way.bit]
        for entry in delivery._outbox.entries()
    ]


def test_events_that_wait_stay_with_their_applications():
    board = outbox_board()
    queue(board)
    queue(board, "zoo")
    queue(board, "home")
    board.agent.delivery.save()
    wanted = [["home", "zoo"], ["zoo"], ["home"]]
    equal(lacking(board), wanted)
    # An application that comes before the others moves their places.
    board.run(**put(1, "a-first"))
    equal(lacking(board), wanted)
    equal(lacking(outbox_board(reopened(board.vault))), wanted)
    queue(board)
    equal(lacking(board)[3], ["a-first", "home", "zoo"])
    board.run(**remove(2, "home"))
    equal(lacking(board), [["zoo"], ["zoo"], ["a-first", "zoo"]])
    equal(lacking(outbox_board(reopened(board.vault))), lacking(board))
    # The next application of that name gets nothing of it.
    board.run(**put(3, "home", NEWER))
    equal(lacking(board), [["zoo"], ["zoo"], ["a-first", "zoo"]])


def test_a_power_cut_gives_no_event_to_another_application():
    wanted = [["home", "zoo"], ["zoo"], ["home"]]

    def provide(store):
        board = outbox_board(store=store)
        for to in (None, "zoo", "home"):
            queue(board, to)
        board.agent.delivery.save()

    def life(vault, done):
        board = outbox_board(vault)
        if not vault.counter("apps"):
            board.run(**put(1, "a-first"))
        return True

    found = []
    cut_everywhere(provide, life, lambda vault: found.append(lacking(outbox_board(vault))))
    # Lost they are only where the power goes between the change and the next write.
    check(all([left in (wanted, []) for left in found]))
    check(wanted in (found[0], found[-1]) and found.count([]) < 5)


def test_the_last_application_goes_and_the_authority_gets_the_events():
    board = outbox_board()
    board.run(**remove(1, "home"))
    board.run(**remove(2, "zoo"))
    queue(board)
    equal(lacking(board), [["authority"]])


# The whole of a device's lives: {appid: record} before and after each order.
ORDERS = (put(1), grant(2, ["blink"]), put(3, "home", NEWER), remove(4), remove(5, "dash"))
TABLES = [
    {"home": HOME},
    {"home": HOME, "dash": [NEW, False, ["set_relay"]]},
    {"home": [KEY, False, ["blink"]], "dash": [NEW, False, ["set_relay"]]},
    {"home": [NEWER, False, ["set_relay"]], "dash": [NEW, False, ["set_relay"]]},
    {"dash": [NEW, False, ["set_relay"]]},
    {},
]


def checked(board):
    """Return how many orders the device took, whose table is that of exactly so many."""
    table, taken = board.table(), board.vault.counter("apps")
    equal(table.pop("authority"), AUTHORITY)
    equal(table, TABLES[taken])
    equal(sorted(set(board.sessions())), sorted(["authority"] + list(table)))
    pending = board.vault.get("rotation")
    if pending is not None:
        check(taken < 3, "a new key of an application that is gone")
    return taken


def life(vault, done):
    board = Board(vault)
    taken = checked(board)
    if taken == 0 and vault.counter("rotation") == 0:
        board.agent.run_authority_command("rotate", {"id": 1, "apps": {"home": b"P" * 32}})
    for order in ORDERS[taken:]:
        board.run(**order)
        checked(board)
    return True


def test_a_power_cut_at_every_operation():
    for again in (False, True):
        cut_everywhere(
            lambda store: provisioned(None, store),
            life,
            lambda vault: equal(checked(Board(vault)), len(ORDERS)),
            again,
        )


def test_a_full_vault_takes_nothing_and_gives_back():
    vault = provisioned()
    number = 0
    while len(vault.names()) < 64:
        vault.put("x%d" % number, b"")
        number += 1
    board = Board(vault)
    raises("vault-limit", lambda: board.run(**put(1)))
    equal(board.table(), {"home": HOME, "authority": AUTHORITY})
    board.run(**remove(1))
    board.run(**put(2))
    again = Vault(vault.store, RootKey())
    again.open()
    equal(again.counter("apps"), 2)
