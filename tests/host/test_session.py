"""The application's side of a session, against a device written apart: every refusal by its code."""

import cbor2
import pytest
from host_kit import PeerDevice, canonical, refused, topic
from hypothesis import given, settings
from hypothesis import strategies as st
from warden_host import cose
from warden_host.names import Address
from warden_host.session import (
    NOTHING_PROVEN,
    DeviceMark,
    Instant,
    Proof,
    Quarantined,
    Received,
    Refused,
    Send,
    Session,
    Stood,
)

K = bytes(range(32))
POLICY = bytes(32)
ADDRESS = Address("relay", "D1", "authority")


class Pair:
    """A device and its application, with what the application kept on disk."""

    def __init__(self, proven: Proof = NOTHING_PROVEN, mark: DeviceMark | None = None) -> None:
        self.device = PeerDevice(K, POLICY)
        self.kept: list = []
        self.mark = mark or DeviceMark()
        self.app = Session(ADDRESS, K, POLICY, self.mark, self.kept.append, proven)
        self.now = Instant(1_700_000_000, 1000.0)

    def restart_app(self) -> None:
        """What the disk kept is all that is left."""
        proofs = [fact for fact in self.kept if isinstance(fact, Proof)]
        mark = DeviceMark(self.mark.boot, self.mark.connect, self.mark.vault_gen)
        self.mark = mark
        proven = proofs[-1] if proofs else NOTHING_PROVEN
        self.app = Session(ADDRESS, K, POLICY, mark, self.kept.append, proven)

    def hear(self, event: str, data: bytes) -> list:
        return self.app.receive(event, data, self.now)

    def code(self, event: str, data: bytes) -> str:
        """The one refusal that this message meets."""
        outcomes = self.hear(event, data)
        assert len(outcomes) == 1, outcomes
        assert isinstance(outcomes[0], Refused), outcomes
        return outcomes[0].code

    def welcome(self, **changes) -> bytes:
        [send] = self.hear("hello", self.device.hello(**changes))
        assert isinstance(send, Send)
        assert send.command == "welcome"
        return send.data

    def stand(self) -> bytes:
        """A whole handshake; the ack's bytes."""
        self.device.take_welcome(self.welcome())
        ack, stood = self.hear("ready", self.device.ready())
        assert isinstance(ack, Send)
        assert isinstance(stood, Stood)
        assert self.device.open("ack", ack.data) == (0, [0, None, {}])
        return ack.data

    def seal(self, ttl: int | None = 30) -> bytes:
        return self.app.seal("set_relay", 7, {"on": 1}, ttl, self.now)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_session_stands_and_carries_both_ways(pair):
    assert not pair.app.stands
    fields = pair.device.take_welcome(pair.welcome())
    assert fields[3] == pair.now.unix
    assert fields[4] == POLICY
    ack, stood = pair.hear("ready", pair.device.ready())
    assert stood == Stood(Proof(1, 0, 1), diverged=False)
    assert pair.kept == [Proof(1, 0, 1)]
    assert pair.app.stands
    assert pair.device.open("ack", ack.data) == (0, [0, None, {}])
    assert pair.device.open("set_relay", pair.seal()) == (1, [7, 30, {"on": 1}])
    said = pair.device.seal("temperature", [0, None, {"c": 21.5}])
    assert pair.hear("temperature", said) == [Received("temperature", 0, {"c": 21.5})]


def test_expiry_counts_from_the_welcome(pair):
    pair.stand()
    pair.now = Instant(5, pair.now.steady + 100.7)  # the wall clock stepped back: nothing changes
    _, (_, expiry, _) = pair.device.open("set_relay", pair.seal(30))
    assert expiry == 130
    _, (_, expiry, _) = pair.device.open("set_relay", pair.seal(None))
    assert expiry is None


def test_a_repeated_hello_gets_the_identical_welcome(pair):
    welcome = pair.welcome()
    pair.now = Instant(pair.now.unix + 9, pair.now.steady + 9)
    assert pair.hear("hello", pair.device.hello_bytes) == [Send("welcome", welcome)]


def test_at_most_four_candidates_and_the_oldest_goes(pair):
    hellos = []
    for _ in range(5):
        welcome = pair.welcome()
        hellos.append((pair.device.hello_bytes, welcome))
    for hello, welcome in hellos[1:]:
        assert pair.hear("hello", hello) == [Send("welcome", welcome)]
    [again] = pair.hear("hello", hellos[0][0])
    assert again.data != hellos[0][1]


def test_a_ready_proves_its_own_candidate(pair):
    first = pair.welcome()
    first_hello = pair.device.hello_bytes
    pair.welcome()
    pair.device.hello_bytes = first_hello
    pair.device.take_welcome(first)
    _, stood = pair.hear("ready", pair.device.ready())
    assert stood.proof == Proof(1, 0, 1)


def test_a_newer_candidate_survives_an_older_ready(pair):
    first, first_hello = pair.welcome(), pair.device.hello_bytes
    second, second_hello = pair.welcome(), pair.device.hello_bytes
    pair.device.hello_bytes = first_hello
    pair.device.take_welcome(first)
    pair.hear("ready", pair.device.ready())
    pair.device.hello_bytes = second_hello
    pair.device.take_welcome(second)
    _, stood = pair.hear("ready", pair.device.ready())
    assert stood.proof.connect == 1
    assert pair.app.previous is not None


def test_a_proven_hello_is_not_answered_again(pair):
    pair.stand()
    assert pair.code("hello", pair.device.hello_bytes) == "stale-hello"
    pair.restart_app()
    assert pair.code("hello", pair.device.hello_bytes) == "stale-hello"
    pair.device.boot, pair.device.connect = 2, -1
    pair.stand()
    assert pair.kept[-1] == Proof(2, 0, 1)


def test_a_doubled_ready_gets_an_ack_that_the_device_can_still_take(pair):
    pair.device.take_welcome(pair.welcome())
    ready = pair.device.ready()
    ack, _ = pair.hear("ready", ready)
    assert pair.hear("ready", ready) == [ack]
    counter, _ = pair.device.open("set_relay", pair.seal())
    assert counter == 1
    [later] = pair.hear("ready", ready)  # the old ack's counter is below the command's by now
    assert pair.device.open("ack", later.data) == (2, [0, None, {}])
    assert pair.hear("ready", ready) == [later]


def test_nothing_is_sealed_without_a_session(pair):
    with refused("no-session"):
        pair.seal()
    pair.welcome()
    with refused("no-session"):
        pair.seal()


def test_a_counter_is_spent_once_and_ends_at_its_limit(pair):
    pair.stand()
    counters = [pair.device.open("set_relay", pair.seal())[0] for _ in range(50)]
    assert counters == list(range(1, 51))
    channel = pair.app._current.channel
    channel._next_down = cose.MAX_COUNTER - 1
    assert pair.device.open("set_relay", pair.seal())[0] == cose.MAX_COUNTER - 1
    with refused("counter-exhausted"):
        pair.seal()
    assert not pair.app.stands


def test_a_body_that_cannot_be_sealed_spends_no_counter(pair):
    pair.stand()
    before = pair.app._current.channel.next_down
    with refused("bad-argument"):
        pair.app.seal("set_relay", 1, {"on": 1 << 70}, 30, pair.now)
    assert pair.app._current.channel.next_down == before


# What is refused


def test_hello_gates(pair):
    device = pair.device
    assert pair.code("hello", b"x" * 600) == "mqtt-too-large"
    assert pair.code("hello", b"\xff") == "cbor-malformed"
    assert pair.code("hello", canonical([])) == "cose-malformed"
    good = device.hello()
    assert pair.code("hello", good[:-1] + bytes([good[-1] ^ 1])) == "tampered"
    other = PeerDevice(K, POLICY, "lights")
    assert pair.code("hello", other.hello()) == "wrong-application"
    stranger = PeerDevice(bytes(32), POLICY)
    stranger.kid = device.kid
    assert pair.code("hello", stranger.hello()) == "tampered"
    elsewhere = device.mac0("hello", "hello", topic("evt", "ready"), [1])
    assert pair.code("hello", elsewhere) == "tampered"
    algorithm = device.mac0("hello", "hello", topic("evt", "hello"), [1], alg=4)
    assert pair.code("hello", algorithm) == "cose-algorithm"
    boolean = device.mac0("hello", "hello", topic("evt", "hello"), [1], alg=True)
    assert pair.code("hello", boolean) == "cose-malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"nonce": bytes(15)},
        {"boot": -1},
        {"boot": 1 << 32},
        {"boot": True},
        {"vault_gen": "1"},
        {"policy": bytes(31)},
        {"connect": None},
        {"wake": bytes(15)},
        {"more": 0},
    ],
)
def test_hello_fields(pair, changes):
    assert pair.code("hello", pair.device.hello(**changes)) == "bad-body"


def test_a_message_bound_to_another_topic_is_refused(pair):
    pair.stand()
    assert pair.code("humidity", pair.device.seal("temperature", [0, None, {}])) == "tampered"


def test_message_gates(pair):
    pair.stand()
    device = pair.device
    assert pair.code("x", b"") == "cbor-malformed"
    assert pair.code("x", canonical({})) == "cose-malformed"
    assert pair.code("x", b"\x18\x01") == "cbor-not-canonical"
    assert pair.code("x", bytes(20000)) == "cbor-limit"
    assert pair.code("x", device.seal("x", [0, None, {}], headers={1: 30})) == "cose-algorithm"
    assert pair.code("x", device.seal("x", [0, None, {}], headers={5: b""})) == "cose-malformed"
    padded = {6: b"\x00\x05"}
    assert pair.code("x", device.seal("x", [0, None, {}], headers=padded)) == "cose-malformed"
    other = {4: bytes(8)}
    assert pair.code("x", device.seal("x", [0, None, {}], headers=other)) == "wrong-application"
    unknown = {10: bytes(8)}
    assert pair.code("x", device.seal("x", [0, None, {}], headers=unknown)) == "no-session"
    message = device.seal("x", [0, None, {}])
    assert pair.code("x", message[:-1] + bytes([message[-1] ^ 0x80])) == "tampered"
    assert isinstance(pair.hear("x", message)[0], Received)  # the forgery moved nothing
    assert pair.code("x", message) == "replayed"


@pytest.mark.parametrize(
    "payload",
    [
        [0, None],
        [0, None, {}, 0],
        {},
        [-1, None, {}],
        [True, None, {}],
        [1 << 32, None, {}],
        [0, -1, {}],
        [0, None, []],
        [0, None, {1: 1}],
    ],
)
def test_payloads(pair, payload):
    pair.stand()
    assert pair.code("x", pair.device.seal("x", payload)) == "bad-body"


def test_a_payload_that_is_no_cbor(pair):
    pair.stand()
    assert pair.code("x", pair.device.seal("x", b"\x9f\xff")) == "cbor-malformed"


def test_the_window_takes_reordered_events_once(pair):
    pair.stand()
    sealed = [pair.device.seal("x", [0, None, {"n": n}]) for n in range(100)]
    assert isinstance(pair.hear("x", sealed[99])[0], Received)
    assert isinstance(pair.hear("x", sealed[40])[0], Received)
    assert pair.code("x", sealed[40]) == "replayed"
    assert pair.code("x", sealed[35]) == "replayed"  # more than 64 behind


def test_an_event_before_ready_and_one_from_an_earlier_session(pair):
    pair.device.take_welcome(pair.welcome())
    assert pair.code("x", pair.device.seal("x", [0, None, {}], counter=1)) == "no-session"
    pair.hear("ready", pair.device.ready())
    old = pair.device.seal("x", [0, None, {}])
    pair.stand()
    assert pair.code("x", old) == "old-session"


def test_ready_must_be_the_first_message_and_say_nothing(pair):
    pair.device.take_welcome(pair.welcome())
    assert pair.code("ready", pair.device.seal("ready", [0, None, {}], counter=1)) == "bad-body"
    assert (
        pair.code("ready", pair.device.seal("ready", [0, None, {"a": 1}], counter=0)) == "bad-body"
    )
    assert pair.kept == []


# Flash that was played back


def test_a_lower_vault_generation_is_quarantined_on_ready_only():
    pair = Pair(Proof(3, 0, 9), DeviceMark(3, 0, 9))
    pair.device.boot, pair.device.vault_gen = 4, 8
    pair.device.take_welcome(
        pair.welcome()
    )  # the hello alone is not judged: it could be played back
    [verdict] = pair.hear("ready", pair.device.ready())
    assert isinstance(verdict, Quarantined)
    assert pair.kept == [verdict]
    with refused("quarantined"):
        pair.seal()
    assert pair.code("hello", pair.device.hello()) == "quarantined"
    pair.mark.clear()
    pair.app.lift()
    pair.stand()


def test_a_boot_below_what_another_application_saw_is_quarantined():
    pair = Pair(Proof(2, 0, 1), DeviceMark(5, 1, 1))
    pair.device.boot = 3
    pair.device.take_welcome(pair.welcome())
    [verdict] = pair.hear("ready", pair.device.ready())
    assert isinstance(verdict, Quarantined)


def test_a_ready_that_was_held_back_over_a_restart_is_only_late(pair):
    """The broker's owner must not get an honest device quarantined by delaying its messages."""
    pair.device.take_welcome(pair.welcome())
    late = pair.device.ready()
    pair.mark.rise(Proof(2, 0, 1))  # proven to another application in the meantime
    assert pair.code("ready", late) == "stale-hello"
    assert not pair.mark.quarantine


def test_a_vault_that_rises_between_two_hellos_of_one_boot_is_no_playback(pair):
    pair.mark.rise(Proof(1, 5, 2))  # hello 5 went to another application, after the vault rose
    pair.device.take_welcome(pair.welcome())  # hello 0 of the same boot was delayed
    assert len(pair.hear("ready", pair.device.ready())) == 2


def test_what_cannot_be_kept_is_not_answered(pair):
    def fail(_):
        raise cose.HostError("database-damaged", "the disk is full")

    pair.device.take_welcome(pair.welcome())
    pair.app._persist, keep = fail, pair.app._persist
    ready = pair.device.ready()
    assert pair.code("ready", ready) == "database-damaged"
    assert not pair.app.stands
    pair.app._persist = keep
    # The counter was seen, so it takes a new hello; the session comes to stand all the same.
    pair.stand()


# Wake


def test_wake_is_repeated_until_a_hello_comes(pair):
    wake = pair.app.wake(pair.now)
    nonce = pair.device.wake_nonce(wake.data)
    for repeat in range(1, 4):
        assert pair.app.tick(Instant(0, pair.now.steady + 10 * repeat - 0.1)) == []
        assert pair.app.tick(Instant(0, pair.now.steady + 10 * repeat)) == [wake]
    assert pair.app.tick(Instant(0, pair.now.steady + 40)) == []
    for minute in range(1, 4):
        assert pair.app.tick(Instant(0, pair.now.steady + 30 + 60 * minute)) == [wake]
    pair.app.wake(pair.now)
    pair.welcome(wake=nonce)
    assert pair.app.tick(Instant(0, pair.now.steady + 10)) == []


def test_a_restarted_application_wakes_its_device(pair):
    pair.stand()
    pair.restart_app()
    assert pair.code("x", pair.device.seal("x", [0, None, {}])) == "no-session"
    pair.device.wake_nonce(pair.app.wake(pair.now).data)
    pair.stand()


# Whatever comes


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from(["hello", "ready", "x"]))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_by_name_and_changes_nothing(messages, event):
    pair = Pair()
    for data in messages:
        assert [type(outcome) for outcome in pair.hear(event, data)] == [Refused]
    pair.stand()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_one_bit_flipped_anywhere_is_refused(data):
    pair = Pair()
    pair.stand()
    message = pair.device.seal("x", [0, None, {"c": 1}])
    bit = data.draw(st.integers(0, len(message) * 8 - 1))
    bent = bytearray(message)
    bent[bit // 8] ^= 1 << bit % 8
    assert isinstance(pair.hear("x", bytes(bent))[0], Refused)
    assert isinstance(pair.hear("x", message)[0], Received)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_it_always_comes_to_stand_again_and_no_nonce_is_used_twice(data):
    """Messages lost, doubled and reordered, both ends restarted at any point."""
    pair = Pair()
    used: dict[bytes, bytes] = {}  # nonce and key -> ciphertext

    def note(command: str, message: bytes) -> None:
        protected, _, ciphertext = cbor2.loads(message)
        spot = protected  # kid, sid and partial IV name the key and the nonce
        assert (
            used.setdefault(spot, command.encode() + ciphertext) == command.encode() + ciphertext
        )

    flying: list[tuple[str, bytes]] = []
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(
            st.sampled_from(["hello", "deliver", "drop", "double", "app", "boot", "send"])
        )
        if step == "hello":
            flying.append(("hello", pair.device.hello()))
        elif step == "app":
            pair.restart_app()
        elif step == "boot":
            pair.device.boot, pair.device.connect = pair.device.boot + 1, -1
        elif step == "send" and pair.app.stands:
            note("set_relay", pair.seal())
        elif flying:
            at = data.draw(st.integers(0, len(flying) - 1))
            event, message = flying[at] if step == "double" else flying.pop(at)
            if step == "drop":
                continue
            for outcome in pair.hear(event, message):
                if isinstance(outcome, Send) and outcome.command == "welcome":
                    if event == "hello" and message == pair.device.hello_bytes:
                        pair.device.take_welcome(outcome.data)
                        flying.append(("ready", pair.device.ready()))
                elif isinstance(outcome, Send):
                    note(outcome.command, outcome.data)
    assert not pair.mark.quarantine
    pair.stand()
    note("set_relay", pair.seal())
