"""Other Wi-Fi networks by the authority's command, on a model of the driver, with power cuts."""

import asyncio

from agent_kit import Rig, provisioned
from harness import check, equal, link_failure, raises
from test_bundle import good
from trial_kit import OrderedRig, cut_everywhere, reopened
from warden.errors import LinkError, PeerError
from warden.hal import network_wifi
from warden.hal.network_wifi import WiFi
from warden.vault import records
from warden.wire import cbor
from wlan_model import Time, Wlan

SLOW = True

GARDEN, HOUSE, CAFE = ["garden", b"secret"], ["house", b"another secret"], ["cafe", b""]
AIR = {"garden": b"secret", "house": b"another secret"}
TRIES = 3


def device(networks=None, store=None):
    """Return the open vault of a device that was provisioned with these networks."""
    bundle = good()
    bundle["network"] = [GARDEN] if networks is None else networks
    return provisioned(bundle, store)


class Board(OrderedRig):
    """One start of a device with Wi-Fi whose tasks are run by hand.

    air: {SSID: password} in reach. reaches: the SSIDs through which the authority can be reached.
    """

    command = "wifi"

    def __init__(self, vault, air=None, reaches=("garden", "house", "cafe")):
        super().__init__(vault)
        self.reaches = reaches
        self.time = Time()
        self.wlan = Wlan(self.time, dict(AIR if air is None else air))
        keep = vault.put, cbor.encode
        self.agent.network = WiFi(records.load_networks(vault), keep=keep, interface=self.wlan)
        self.closed = 0
        self.agent.client.close = self._close
        self.start_without_tasks()

    def _close(self):
        self.closed += 1

    def connect(self):
        """Make one connection attempt as the agent does; return the SSID of a session, or ""."""
        agent = self.agent
        agent.sessions[0].up = False
        agent.session_up.clear()
        if agent.rotation is not None:
            agent.rotation.choose_secrets()
        saved = network_wifi.time, network_wifi.asyncio
        network_wifi.time = network_wifi.asyncio = self.time
        try:
            asyncio.run(agent.network.up(20000))
        except LinkError as error:
            if agent.rotation is not None:
                agent.rotation.failed(error)
            return ""
        finally:
            network_wifi.time, network_wifi.asyncio = saved
        ssid = self.wlan.joined()[-1]
        if ssid not in self.reaches:
            if agent.rotation is not None:
                agent.rotation.failed(link_failure("unreachable"))
            return ""
        agent.sessions[0].up = True
        agent._check_sessions()
        return ssid

    def networks(self):
        return records.load_networks(self.vault)


def test_the_state():
    board = Board(device([GARDEN, CAFE]))
    state = {"id": 0, "proved": 0, "networks": ["garden", "cafe"], "pending": None}
    equal(board.run(), state)
    check("secret" not in str(state))


def test_a_new_network_that_works():
    board = Board(device([GARDEN, CAFE]))
    equal(board.connect(), "garden")
    state = board.run(id=1, add=HOUSE, keep=["garden"])
    equal((state["networks"], state["pending"]), (["garden", "cafe"], ["house", "garden"]))
    equal((state["id"], state["proved"], board.closed), (1, 0, 1))
    # The session through the old network proves nothing.
    board.agent._check_sessions()
    equal(board.networks(), [GARDEN, CAFE])
    equal(board.connect(), "house")
    equal(board.networks(), [HOUSE, GARDEN])
    check(("wifi-changed", "house, garden") in board.logged)
    after = {"id": 1, "proved": 1, "networks": ["house", "garden"], "pending": None}
    equal(board.run(), after)
    equal((board.agent.rotation, board.vault.get("network_new")), (None, None))
    # It stays connected through it, and a start does too.
    equal(board.connect(), "house")
    equal(board.wlan.joined(), ["garden", "house"])
    equal(Board(reopened(board.vault)).connect(), "house")


def test_a_new_network_that_does_not_work():
    """Not in reach, a wrong password, no way to the authority: the old ones are back."""
    for air, reaches, add in (
        ({"garden": b"secret"}, ("garden",), HOUSE),
        (AIR, ("garden", "house"), ["house", b"a wrong password"]),
        (AIR, ("garden",), HOUSE),
        (AIR, ("garden",), ["garden", b"a wrong password"]),
    ):
        board = Board(device(), air, reaches)
        board.connect()
        board.run(id=1, add=add, keep=[] if add[0] == "garden" else ["garden"])
        for _ in range(TRIES):
            equal(board.connect(), "")
        equal(board.connect(), "garden")
        equal(board.networks(), [GARDEN])
        equal([i["code"] for i in board.incidents()], ["wifi-failed"])
        state = board.run()
        equal((state["id"], state["proved"], state["pending"]), (1, 0, None))
        for text in ("secret", "wrong"):
            check(text not in str(board.logged))


def test_a_session_that_does_not_come_up_in_time():
    """The broker is reached, and the authority is away."""
    board = Board(device(), reaches=("garden",))
    board.connect()
    board.run(id=1, add=HOUSE, keep=["garden"])
    pending = board.agent.rotation
    for _ in range(TRIES):
        board.connect()
        pending.trying = True  # connected to the broker
        closed = board.closed
        equal(pending.due_ms(1000), 121000)
        equal((pending.due_ms(120999), board.closed), (121000, closed))
        equal((pending.due_ms(121000), board.closed), (None, closed + 1))
        equal(pending.due_ms(121001), None)
    equal(board.connect(), "garden")
    # Nothing is closed where nothing is tried.
    equal(board.agent.rotation, None)


def test_a_late_session_after_the_deadline_proves_nothing():
    board = Board(device(), reaches=("garden",))
    board.run(id=1, add=HOUSE, keep=["garden"])
    board.connect()
    board.agent.rotation.trying = True
    board.agent.rotation.due_ms(0)
    board.agent.rotation.due_ms(200000)
    board.agent.sessions[0].up = True
    board.agent._check_sessions()
    equal(board.networks(), [GARDEN])


def test_another_application_s_session_proves_nothing():
    board = Board(device())
    board.run(id=1, add=HOUSE, keep=["garden"])
    board.agent.rotation.choose_secrets()
    board.agent.sessions[1].up = True
    board.agent._check_sessions()
    equal(board.networks(), [GARDEN])
    check(board.agent.rotation is not None)


def test_a_network_is_taken_away():
    board = Board(device([GARDEN, HOUSE]))
    equal(board.connect(), "garden")
    board.run(id=1, add=None, keep=["house"])
    equal(board.networks(), [GARDEN, HOUSE])
    equal(board.connect(), "house")
    equal(board.networks(), [HOUSE])
    # The one in use stays: the connection is made anew through it.
    board = Board(device([GARDEN, HOUSE]))
    board.connect()
    board.run(id=1, add=None, keep=["garden"])
    equal(board.connect(), "garden")
    equal((board.networks(), board.wlan.joined()), ([GARDEN], ["garden"]))


def test_the_order_that_worked_is_not_kept_while_a_change_is_pending():
    """It would put the pending networks into the place of the old ones, unproven."""
    board = Board(device([GARDEN, HOUSE, CAFE]), {"house": HOUSE[1]}, ("house",))
    board.run(id=1, add=None, keep=["garden", "house"])
    board.agent.authority = lambda: None
    equal(board.connect(), "house")
    equal(board.networks(), [GARDEN, HOUSE, CAFE])


def test_refused():
    board = Board(device([GARDEN, CAFE]))
    nine = [["n%d" % i, b""] for i in range(9)]
    for args in (
        {"id": 1},
        {"id": 1, "add": HOUSE},
        {"id": 1, "add": HOUSE, "keep": [], "more": 1},
        {"id": 0, "add": HOUSE, "keep": []},
        {"id": 1 << 32, "add": HOUSE, "keep": []},
        {"id": True, "add": HOUSE, "keep": []},
        {"id": "1", "add": HOUSE, "keep": []},
        {"id": 1, "add": None, "keep": []},
        {"id": 1, "add": None, "keep": "garden"},
        {"id": 1, "add": None, "keep": ["house"]},
        {"id": 1, "add": None, "keep": [["garden"]]},
        {"id": 1, "add": None, "keep": ["garden", "garden"]},
        {"id": 1, "add": GARDEN, "keep": ["garden"]},
        {"id": 1, "add": ["house"], "keep": []},
        {"id": 1, "add": "house", "keep": []},
        {"id": 1, "add": ["house", "text"], "keep": []},
        {"id": 1, "add": ["", b""], "keep": []},
        {"id": 1, "add": ["x" * 33, b""], "keep": []},
        {"id": 1, "add": ["house", bytes(65)], "keep": []},
    ):
        check(isinstance(raises("bad-body", lambda args=args: board.run(**args)), PeerError))
        equal([(i["code"], i["at"]) for i in board.incidents()], [("bad-body", "wifi")])
    equal((board.vault.get("network_new"), board.agent.rotation, board.closed), (None, None, 0))
    eight = Board(device(nine[:8]))
    names = [ssid for ssid, _ in nine[:8]]
    raises("bad-body", lambda: eight.run(id=1, add=nine[8], keep=names))
    eight.run(id=1, add=nine[8], keep=names[1:])


def test_an_order_is_taken_once():
    board = Board(device())
    board.run(id=5, add=HOUSE, keep=["garden"])
    for id in (4, 5):
        raises("unexpected", lambda id=id: board.run(id=id, add=CAFE, keep=["garden"]))
    check(isinstance(raises("busy", lambda: board.run(id=6, add=CAFE, keep=[])), LinkError))
    equal(board.connect(), "house")
    raises("unexpected", lambda: board.run(id=5, add=CAFE, keep=[]))
    board.run(id=6, add=None, keep=["house"])


def test_one_change_at_a_time():
    """Neither a rotation during a change of the networks, nor the other way round."""
    board = Board(device())
    board.run(id=1, add=HOUSE, keep=["garden"])
    raises(
        "busy", lambda: board.agent.run_authority_command("rotate", {"id": 1, "password": b"p"})
    )
    equal(board.vault.get("rotation"), None)
    board = Board(device())
    board.agent.run_authority_command("rotate", {"id": 1, "password": b"a new password"})
    raises("busy", lambda: board.run(id=1, add=HOUSE, keep=["garden"]))
    equal(board.vault.get("network_new"), None)
    equal(board.run()["pending"], None)


def test_a_board_without_wifi():
    vault = device()
    Board(vault).run(id=1, add=HOUSE, keep=["garden"])
    rig = Rig(reopened(vault)).start_without_tasks()  # board.py says "wired" now
    equal((rig.agent.rotation, rig.agent.vault.get("network_new")), (None, None))
    raises("unknown-command", rig.agent.run_authority_command, "wifi", {})


def test_each_start_is_a_try():
    """A device that restarts instead of connecting falls back as well."""
    vault = device()
    Board(vault).run(id=1, add=HOUSE, keep=["garden"])
    for _ in range(TRIES):
        vault = reopened(vault)
        Board(vault).agent.rotation.choose_secrets()
    board = Board(reopened(vault))
    equal(board.connect(), "garden")
    equal(board.networks(), [GARDEN])


def life(vault, works, done):
    """Run one start until the power goes; note in `done` what was reached.

    Return True at its end: a session is up, and nothing is pending.
    """
    board = Board(vault, reaches=("garden", "house") if works else ("garden",))
    check(board.networks() in ([GARDEN, CAFE], [HOUSE, GARDEN]))
    if not done and vault.counter("network") == 0:
        board.connect()
        board.run(id=1, add=HOUSE, keep=["garden"])
        done.append("ordered")
    for _ in range(2 * TRIES):
        ssid = board.connect()
        # At each moment there is a whole set of networks, old or new.
        check(board.networks() in ([GARDEN, CAFE], [HOUSE, GARDEN]))
        if ssid and board.agent.rotation is None:
            return True
    return False


def test_a_power_cut_at_every_operation():
    """Cut once at each operation of the store, and then again and again at each second one."""
    for works in (True, False):
        for again in (False, True):

            def verify(vault, works=works, again=again):
                taken = vault.counter("network") == 1
                proved = vault.counter("network_good") == 1
                networks = records.load_networks(vault)
                equal(networks, [HOUSE, GARDEN] if proved else [GARDEN, CAFE])
                equal(vault.get("network_new"), None)
                if not again:
                    # One cut costs at most one of three tries.
                    equal(proved, works and taken)

            cut_everywhere(
                lambda store: device([GARDEN, CAFE], store),
                lambda vault, done, works=works: life(vault, works, done),
                verify,
                again,
            )
