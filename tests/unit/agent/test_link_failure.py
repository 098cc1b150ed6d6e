"""How a fleet comes back to a broker that was away: soon, and not as one wave."""

import sys

from harness import check, equal
from warden.agent import link_failure
from warden.agent.link_failure import record
from warden.errors import LinkError, PeerError
from warden.net.backoff import Backoff

DEVICES = 200


class Client:
    accepted = False


class Agent:
    """The agent as far as record() is concerned."""

    rotation = network = token = ota = None

    def __init__(self):
        self.backoff = Backoff(1000, 60000)
        self.client = Client()
        self.now = 0

    def now_ms(self):
        return self.now

    def report(self, code, at):
        pass


def returns(away_ms, error):
    """Return the times after a broker's return at which each device of a fleet tries it."""
    found = []
    for _ in range(DEVICES):
        agent = Agent()
        agent.client.accepted = True
        ends = record(agent, (0, 0, 0), LinkError("link-timeout"), 0)
        agent.client.accepted = False
        agent.now += agent.backoff.next_ms()
        while agent.now < away_ms:
            ends = record(agent, ends, error, agent.now)
            agent.now += agent.backoff.next_ms()
        found.append(agent.now - away_ms)
    return sorted(found)


def test_devices_are_back_soon_after_a_short_outage_and_not_all_at_once():
    for code in ("unreachable", "link-closed"):
        times = returns(10000, LinkError(code))
        check(times[DEVICES // 2] <= 2000, times[DEVICES // 2])
        check(times[-1] <= 3000 + 10000 // 8, times[-1])
        # Spread over the whole span: no fifth of a second holds more than a fifth of the fleet.
        for at in range(0, 4400, 200):
            held = len([time for time in times if at <= time < at + 200])
            check(held <= DEVICES // 5, "%d at %d" % (held, at))


def test_a_broker_that_restarts_is_tried_within_half_of_the_first_ceiling():
    times = []
    for _ in range(DEVICES):
        agent = Agent()
        agent.client.accepted, agent.now = True, 10000
        record(agent, (0, 0, 0), LinkError("link-closed"), 0)
        times.append(agent.backoff.next_ms())
        # It was not there yet: the ceilings go on from the first one.
        check(agent.backoff.next_ms() <= 1000)
    check(400 < max(times) <= 500, max(times))
    # Still spread: no twentieth of a second holds more than a quarter of the fleet.
    for at in range(0, 500, 50):
        check(len([time for time in times if at <= time < at + 50]) <= DEVICES // 4, at)
    # Not behind one that was closed early, which would then be made ever again.
    times = []
    for _ in range(DEVICES):
        agent = Agent()
        agent.client.accepted, agent.now = True, 9999
        record(agent, (0, 0, 0), LinkError("link-closed"), 0)
        times.append(agent.backoff.next_ms())
    check(500 < max(times) <= 1000, max(times))


def test_the_longer_a_broker_is_away_the_rarer_are_the_attempts():
    times = returns(400000, LinkError("unreachable"))
    check(3000 + 10000 // 8 < times[-1] <= 3000 + 400000 // 8, times[-1])
    check(returns(3600000, LinkError("unreachable"))[-1] <= 60000)


def test_attempts_in_a_row_that_reach_no_broker_make_room_for_one():
    """Code in the heap may be what TLS lacks the memory for."""

    class Updates:
        asked = 0

        def make_room(self):
            self.asked += 1

    agent = Agent()
    agent.ota = Updates()
    ends, found = (0, 0, 0), []
    for _ in range(6):
        ends = record(agent, ends, LinkError("tls-failed"), 0)
        found.append(agent.ota.asked)
    equal(found, [0, 0, 1, 1, 1, 2])


def test_a_refused_log_in_waits_long():
    agent = Agent()
    record(agent, (0, 0, 0), PeerError("mqtt-refused"), 0)
    waits = [agent.backoff.next_ms() for _ in range(40)]
    check(max(waits) > 20000, max(waits))
    # A lost route behind it does not.
    equal(record(agent, (0, 0, 0), LinkError("unreachable"), 0), (1, 0, 0))
    check(agent.backoff.next_ms() <= 3000)


def test_a_broker_that_is_not_available_waits_as_for_a_lost_one():
    """Its answer proves the way to it, and nothing of the password."""
    agent = Agent()
    failed = []
    agent.network = Network(failed)
    ends = (0, 0, 0)
    for _ in range(6):
        ends = record(agent, ends, LinkError("mqtt-unavailable"), 0)
        check(agent.backoff.next_ms() <= 3000)
    equal((ends[0], failed), (0, []))


class Listing:
    """A board's root with a folder for a card, where a file with pins might be."""

    def listdir(self, path):
        return ["sd", "lib"]


def test_a_refused_server_on_a_board_without_the_files_of_updates():
    """It has no release keys, looks for no pins, and goes on waiting as behind any refusal."""
    agent = Agent()
    os, update = link_failure.os, sys.modules.get("warden.ota.update")
    link_failure.os, sys.modules["warden.ota.update"] = Listing(), Listing
    try:
        for code in ("pin-mismatch", "certificate-untrusted"):
            equal(record(agent, (2, 0, 0), PeerError(code), 0), (0, 0, 0))
            agent.backoff.next_ms()
        # The ceiling doubled: no new pins have set it back.
        equal(agent.backoff._ceiling_ms, 4000)
    finally:
        link_failure.os = os
        del sys.modules["warden.ota.update"]
        if update is not None:
            sys.modules["warden.ota.update"] = update


class Network:
    def __init__(self, failed):
        self.failed = lambda: failed.append(1)
