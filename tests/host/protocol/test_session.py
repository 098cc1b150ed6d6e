"""Sessions of the application against an independent device; each refusal has its code."""

from host_kit import refused
from session_kit import POLICY, Pair
from warden_client.protocol import cose
from warden_client.protocol.freshness import DeviceMark, Proof
from warden_client.protocol.results import Quarantined, Received, Send, SessionUp
from warden_client.protocol.session import Instant


def test_a_session_comes_up_and_carries_both_ways(pair):
    assert not pair.app.is_up
    fields = pair.device.take_welcome(pair.welcome())
    assert fields[3] == pair.now.unix
    assert fields[4] == POLICY
    ack, stood = pair.receive("ready", pair.device.ready())
    assert stood == SessionUp(Proof(1, 0, 1), diverged=False)
    assert pair.kept == [Proof(1, 0, 1)]
    assert pair.app.is_up
    assert pair.device.open("ack", ack.data) == (0, [0, None, {}])
    assert pair.device.open("set_relay", pair.seal()) == (1, [7, 30, {"on": 1}])
    said = pair.device.seal("temperature", [0, None, {"c": 21.5}])
    assert pair.receive("temperature", said) == [Received("temperature", 0, {"c": 21.5})]


def test_expiry_counts_from_the_welcome(pair):
    pair.handshake()
    pair.now = Instant(5, pair.now.steady + 100.7)  # the wall clock stepped back: nothing changes
    _, (_, expiry, _) = pair.device.open("set_relay", pair.seal(30))
    assert expiry == 130
    _, (_, expiry, _) = pair.device.open("set_relay", pair.seal(None))
    assert expiry is None


def test_a_repeated_hello_gets_the_identical_welcome(pair):
    welcome = pair.welcome()
    pair.now = Instant(pair.now.unix + 9, pair.now.steady + 9)
    assert pair.receive("hello", pair.device.hello_bytes) == [Send("welcome", welcome)]


def test_at_most_four_candidates_and_the_oldest_goes(pair):
    hellos = []
    for _ in range(5):
        welcome = pair.welcome()
        hellos.append((pair.device.hello_bytes, welcome))
    for hello, welcome in hellos[1:]:
        assert pair.receive("hello", hello) == [Send("welcome", welcome)]
    [again] = pair.receive("hello", hellos[0][0])
    assert again.data != hellos[0][1]


def test_a_ready_proves_its_own_candidate(pair):
    first = pair.welcome()
    first_hello = pair.device.hello_bytes
    pair.welcome()
    pair.device.hello_bytes = first_hello
    pair.device.take_welcome(first)
    _, stood = pair.receive("ready", pair.device.ready())
    assert stood.proof == Proof(1, 0, 1)


def test_a_newer_candidate_survives_an_older_ready(pair):
    first, first_hello = pair.welcome(), pair.device.hello_bytes
    second, second_hello = pair.welcome(), pair.device.hello_bytes
    pair.device.hello_bytes = first_hello
    pair.device.take_welcome(first)
    pair.receive("ready", pair.device.ready())
    pair.device.hello_bytes = second_hello
    pair.device.take_welcome(second)
    _, stood = pair.receive("ready", pair.device.ready())
    assert stood.proof.connect == 1
    assert pair.app.previous is not None


def test_a_ready_of_an_older_hello_begins_no_session(pair):
    first, first_hello = pair.welcome(), pair.device.hello_bytes
    pair.device.take_welcome(pair.welcome())
    pair.receive("ready", pair.device.ready())
    pair.device.hello_bytes = first_hello
    pair.device.take_welcome(first)
    assert pair.code("ready", pair.device.ready()) == "no-session"
    assert pair.kept == [Proof(1, 1, 1)]


def test_a_wake_waits_until_a_session_is_there(pair):
    assert pair.app.pending_wake is None
    wake = pair.app.request_hello(pair.now)
    assert pair.app.pending_wake == wake
    pair.handshake()
    assert pair.app.pending_wake is None
    pair.app.request_hello(pair.now)
    assert pair.app.pending_wake is None  # it goes on in its session meanwhile


def test_a_proven_hello_is_not_answered_again(pair):
    pair.handshake()
    assert pair.code("hello", pair.device.hello_bytes) == "stale-hello"
    pair.restart_app()
    assert pair.code("hello", pair.device.hello_bytes) == "stale-hello"
    pair.device.boot, pair.device.connect = 2, -1
    pair.handshake()
    assert pair.kept[-1] == Proof(2, 0, 1)


def test_a_doubled_ready_gets_an_ack_that_the_device_can_still_take(pair):
    pair.device.take_welcome(pair.welcome())
    ready = pair.device.ready()
    ack, _ = pair.receive("ready", ready)
    assert pair.receive("ready", ready) == [ack]
    counter, _ = pair.device.open("set_relay", pair.seal())
    assert counter == 1
    [later] = pair.receive("ready", ready)  # the old ack's counter is below the command's by now
    assert pair.device.open("ack", later.data) == (2, [0, None, {}])
    assert pair.receive("ready", ready) == [later]


def test_nothing_is_sealed_without_a_session(pair):
    with refused("no-session"):
        pair.seal()
    pair.welcome()
    with refused("no-session"):
        pair.seal()


def test_a_counter_is_spent_once_and_ends_at_its_limit(pair):
    pair.handshake()
    counters = [pair.device.open("set_relay", pair.seal())[0] for _ in range(50)]
    assert counters == list(range(1, 51))
    channel = pair.app._current.channel
    channel._next_down = cose.MAX_COUNTER - 1
    assert pair.device.open("set_relay", pair.seal())[0] == cose.MAX_COUNTER - 1
    with refused("counter-exhausted"):
        pair.seal()
    assert not pair.app.is_up


def test_a_body_that_cannot_be_sealed_spends_no_counter(pair):
    pair.handshake()
    before = pair.app._current.channel.next_down
    with refused("bad-argument"):
        pair.app.seal("set_relay", 1, {"on": 1 << 70}, 30, pair.now)
    assert pair.app._current.channel.next_down == before


# Flash that was played back


def test_a_lower_vault_generation_is_quarantined_on_ready_only():
    pair = Pair(Proof(3, 0, 9), DeviceMark(3, 0, 9))
    pair.device.boot, pair.device.vault_gen = 4, 8
    pair.device.take_welcome(
        pair.welcome()
    )  # the hello alone is not judged: it could be played back
    [verdict] = pair.receive("ready", pair.device.ready())
    assert isinstance(verdict, Quarantined)
    assert pair.kept == [verdict]
    with refused("quarantined"):
        pair.seal()
    assert pair.code("hello", pair.device.hello()) == "quarantined"
    pair.mark.reset()
    pair.app.reset_proofs()
    pair.handshake()


def test_a_boot_below_what_another_application_saw_is_quarantined():
    pair = Pair(Proof(2, 0, 1), DeviceMark(5, 1, 1))
    pair.device.boot = 3
    pair.device.take_welcome(pair.welcome())
    [verdict] = pair.receive("ready", pair.device.ready())
    assert isinstance(verdict, Quarantined)


def test_a_ready_that_was_held_back_over_a_restart_is_only_late(pair):
    """The broker's owner must not get an honest device quarantined by delaying its messages."""
    pair.device.take_welcome(pair.welcome())
    late = pair.device.ready()
    pair.mark.raise_to(Proof(2, 0, 1))  # proven to another application in the meantime
    assert pair.code("ready", late) == "stale-hello"
    assert not pair.mark.quarantine


def test_a_higher_generation_between_two_hellos_of_one_boot_is_no_replay(pair):
    pair.mark.raise_to(Proof(1, 5, 2))  # hello 5 went to another application, after the vault rose
    pair.device.take_welcome(pair.welcome())  # hello 0 of the same boot was delayed
    assert len(pair.receive("ready", pair.device.ready())) == 2


def test_a_hello_that_cannot_be_stored_is_not_answered(pair):
    def fail(_):
        raise cose.HostError("database-damaged", "the disk is full")

    pair.device.take_welcome(pair.welcome())
    pair.app._persist, keep = fail, pair.app._persist
    ready = pair.device.ready()
    assert pair.code("ready", ready) == "database-damaged"
    assert not pair.app.is_up
    pair.app._persist = keep
    # The counter was seen, so it takes a new hello; the session comes to stand all the same.
    pair.handshake()


# Wake


def test_wake_is_repeated_until_a_hello_comes(pair):
    wake = pair.app.request_hello(pair.now)
    nonce = pair.device.wake_nonce(wake.data)
    for repeat in range(1, 4):
        assert pair.app.tick(Instant(0, pair.now.steady + 10 * repeat - 0.1)) == []
        assert pair.app.tick(Instant(0, pair.now.steady + 10 * repeat)) == [wake]
    assert pair.app.tick(Instant(0, pair.now.steady + 40)) == []
    for minute in range(1, 4):
        assert pair.app.tick(Instant(0, pair.now.steady + 30 + 60 * minute)) == [wake]
    pair.app.request_hello(pair.now)
    pair.welcome(wake=nonce)
    assert pair.app.tick(Instant(0, pair.now.steady + 10)) == []


def test_a_restarted_application_wakes_its_device(pair):
    pair.handshake()
    pair.restart_app()
    assert pair.code("x", pair.device.seal("x", [0, None, {}])) == "no-session"
    pair.device.wake_nonce(pair.app.request_hello(pair.now).data)
    pair.handshake()
