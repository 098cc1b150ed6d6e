"""Passkeys at the console: registered, checked, refused where anything is not as it must be."""

from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from host_kit import refused
from passkey_kit import ED, UP, UV, Authenticator, encode
from warden_host.relying_party import RelyingParty, relying_party
from warden_host.service import challenges, passkeys
from warden_host.service.passkeys import Passkeys, code_hash, grouped, new_code
from warden_host.store.operators import Operator
from warden_host.store.passkeys import MOST
from warden_host.store.store import Store

ORIGIN = "http://localhost:8080"


class World:
    """An operator, an authenticator and the authority's side."""

    def __init__(self, store: Store) -> None:
        store.put_operator(Operator("alice", None, "", ("look",)))
        store.put_operator(Operator("bob", None, "", ("look",)))
        self.store = store
        self.now = self.wall = 1000.0
        engine = SimpleNamespace(store=store)
        clocks = lambda: self.wall, lambda: self.now  # noqa: E731
        self.passkeys = Passkeys(lambda question: question(engine), "home", *clocks)
        self.passkeys.party = RelyingParty("localhost", ORIGIN)
        self.own = Authenticator()

    def register(self, own: Authenticator | None = None, name: str = "alice", **lies) -> None:
        own = own or self.own
        options = self.passkeys.ask_new(name, "session")
        origin = lies.pop("origin", ORIGIN)
        self.passkeys.add(name, own.create(options, origin, **lies), "phone", "session")

    def log_in(self, **lies) -> str:
        options = self.passkeys.ask_login("browser")
        origin = lies.pop("origin", ORIGIN)
        return self.passkeys.check_login(self.own.get(options, origin, **lies), "browser").name


@pytest.fixture
def world(tmp_path):
    with Store(tmp_path / "fleet.db") as store:
        yield World(store)


def test_a_passkey_logs_its_operator_in(world):
    world.register()
    assert [world.log_in() for _ in range(2)] == ["alice", "alice"]
    (kept,) = world.store.passkeys("alice")
    assert (kept.count, kept.label, kept.used) == (2, "phone", world.now)
    options = world.passkeys.ask_new("alice", "session")
    assert options["excludeCredentials"] == [{"id": encode(world.own.id), "type": "public-key"}]
    assert options["authenticatorSelection"]["userVerification"] == "required"
    asked = world.passkeys.ask_login("browser")
    assert (asked["userVerification"], asked["allowCredentials"]) == ("required", [])


@pytest.mark.parametrize(
    "lies",
    [
        {"flags": UP},  # nobody was verified
        {"flags": UV},  # nobody was there
        {"origin": "http://localhost:8081"},
        {"origin": "https://localhost:8080"},
        {"party": "evil.example"},
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"user": b"another"},
        {"client": {"type": "webauthn.create"}},
        {"client": {"crossOrigin": True}},
        {"client": {"challenge": ["x"]}},
        {"client": {"challenge": "é"}},
        {"more": b"\xa0", "flags": UP | UV | ED},  # extensions, which nobody asked for
        {"response": {"clientDataJSON": encode(b"{")}},
        {"response": {"clientDataJSON": "A" * 3000}},
        {"response": {"clientDataJSON": 5}},
        {"response": {"userHandle": None}},
        {"response": {"signature": "A" * 2000}},
        {"response": {"signature": None}},
        {"response": {"authenticatorData": ""}},
    ],
)
def test_a_log_in_that_is_not_as_it_must_be(world, lies):
    world.register()
    with refused("login-refused"):
        world.log_in(**lies)
    assert world.store.passkeys("alice")[0].used == 0
    assert world.log_in(count=7) == "alice"  # and counts for nothing


@pytest.mark.parametrize("credential", [None, [], {}, {"response": 1}, {"id": 1, "response": {}}])
def test_what_is_no_credential(world, credential):
    with refused("login-refused"):
        world.passkeys.check_login(credential, "browser")


def test_a_passkey_that_is_not_known(world):
    with refused("login-refused"):
        world.log_in()
    world.register()
    world.store.remove_passkey("alice", world.own.id)
    with refused("login-refused"):
        world.log_in()


def test_a_count_that_goes_back_blocks_the_passkey(world):
    world.register()
    world.log_in(count=5)
    with refused("login-refused"):  # a forgery does not look like a clone
        world.log_in(count=1, key=ec.generate_private_key(ec.SECP256R1()))
    assert world.log_in(count=6) == "alice"
    for count in (6, 100):
        with refused("passkey-cloned"):
            world.log_in(count=count)
    assert world.store.passkeys("alice")[0].cloned


def test_an_authenticator_that_counts_nothing(world):
    world.register()
    assert [world.log_in(count=0) for _ in range(3)] == ["alice"] * 3


def test_a_question_counts_once_for_one_browser_and_not_for_ever(world):
    world.register()
    options = world.passkeys.ask_login("browser")
    with refused("passkey-refused"):
        world.passkeys.check_login(world.own.get(options, ORIGIN), "another browser")
    world.now += challenges.LIFE_S
    with refused("passkey-refused"):
        world.passkeys.check_login(world.own.get(options, ORIGIN), "browser")
    options = world.passkeys.ask_login("browser")
    assert world.passkeys.check_login(world.own.get(options, ORIGIN), "browser")
    with refused("passkey-refused"):
        world.passkeys.check_login(world.own.get(options, ORIGIN), "browser")
    new = world.passkeys.ask_new("alice", "browser")
    with refused("passkey-refused"):  # of another purpose
        world.passkeys.check_login(world.own.get(options | new, ORIGIN), "browser")
    with refused("passkey-refused"):  # made up
        made_up = {"challenge": encode(bytes(64))}
        world.passkeys.check_login(world.own.get(options | made_up, ORIGIN), "browser")


def test_a_clock_that_jumps_brings_no_question_back(world):
    world.register()
    options = world.passkeys.ask_login("browser")
    answer = world.own.get(options, ORIGIN, count=0)
    assert world.passkeys.check_login(answer, "browser")
    world.wall += 86400
    world.log_in(count=0)
    world.wall -= 2 * 86400
    with refused("passkey-refused"):
        world.passkeys.check_login(answer, "browser")


def test_used_questions_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(challenges, "_MOST_USED", 3)
    now = [0.0]
    made = challenges.Challenges(lambda: now[0])
    for _ in range(3):
        made.use(made.make("login", "x"))
    with refused("passkey-refused"):
        made.use(made.make("login", "x"))
    now[0] = challenges.LIFE_S
    made.use(made.make("login", "x"))


@pytest.mark.parametrize(
    ("lies", "code"),
    [
        ({"flags": UP}, "passkey-refused"),
        ({"flags": UV}, "passkey-refused"),
        ({"origin": "http://evil.example"}, "passkey-refused"),
        ({"party": "evil.example"}, "passkey-refused"),
        ({"fmt": "android-safetynet"}, "passkey-refused"),
        ({"fmt": 7}, "passkey-refused"),
        ({"client": {"type": "webauthn.get"}}, "passkey-refused"),
        ({"client": {"crossOrigin": True}}, "login-refused"),
        ({"response": {"attestationObject": encode(b"\xa0")}}, "passkey-refused"),
        # Arrays in arrays, and one of 2^64 - 1 items: neither stack nor memory.
        ({"response": {"attestationObject": encode(b"\x81" * 5000)}}, "passkey-refused"),
        ({"response": {"attestationObject": encode(b"\x9b" + b"\xff" * 8)}}, "passkey-refused"),
        ({"response": {"attestationObject": "A" * 9000}}, "login-refused"),
    ],
)
def test_a_registration_that_is_not_as_it_must_be(world, lies, code):
    with refused(code):
        world.register(**lies)
    assert world.store.passkeys("alice") == []


def test_a_registration_is_for_the_session_that_asked_and_its_operator(world):
    options = world.passkeys.ask_new("alice", "session")
    for name, bound in (("bob", "session"), ("alice", "another")):
        with refused("passkey-refused"):
            world.passkeys.add(name, world.own.create(options, ORIGIN), "", bound)
    made = world.passkeys.add("alice", world.own.create(options, ORIGIN), "\x1b[2J", "session")
    assert made.label.isprintable()
    with refused("passkey-refused"):  # the same question again
        world.passkeys.add("alice", Authenticator().create(options, ORIGIN), "", "session")
    with refused("not-applicable"):  # the same passkey again, also of another operator
        world.register(name="bob")


def test_an_operator_has_so_many_passkeys(world):
    for _ in range(MOST):
        world.register(Authenticator())
    with refused("not-applicable"):
        world.register(Authenticator())
    world.store.remove_operator("alice")
    assert world.store.passkeys("alice") == []


def test_a_code_registers_once(world):
    code = new_code()
    kept = code_hash(grouped(code).lower())
    assert kept == code_hash(code) and len(code) == 16
    world.store.put_passkey_code("alice", kept, 500.0)
    assert world.store.is_passkey_code("alice", kept, 499.0)
    for name, hashed, now in (("alice", kept, 500.0), ("bob", kept, 1.0), ("alice", b"", 1.0)):
        assert not world.store.is_passkey_code(name, hashed, now)
    options = world.passkeys.ask_new("alice", "code")
    world.passkeys.add("alice", world.own.create(options, ORIGIN), "", "code", kept)
    assert not world.store.is_passkey_code("alice", kept, 1.0)
    options = world.passkeys.ask_new("alice", "code")
    with refused("login-refused"):
        world.passkeys.add("alice", Authenticator().create(options, ORIGIN), "", "code", kept)
    assert len(world.store.passkeys("alice")) == 1


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (("127.0.0.1", 8080, False), ("localhost", "http://localhost:8080")),
        (("::1", 80, False), ("localhost", "http://localhost")),
        (("Home.Example", 443, True), ("home.example", "https://home.example")),
        (("home.example", 8443, True), ("home.example", "https://home.example:8443")),
        (("192.0.2.7", 8443, True), None),
        (("2001:db8::7", 443, True), None),
    ],
)
def test_the_party_is_the_consoles_own_address(address, found, world):
    assert relying_party(*address) == (found and RelyingParty(*found))
    if found is None:
        world.passkeys.party = None
        with refused("passkey-unavailable"):
            world.passkeys.ask_login("browser")
        with refused("passkey-unavailable"):
            world.passkeys.ask_new("alice", "session")


def test_the_handle_of_an_operator_says_nothing(world):
    handles = {
        name: world.passkeys.ask_new(name, "session")["user"]["id"] for name in ("alice", "bob")
    }
    assert len(set(handles.values())) == 2
    again = Passkeys(passkeys.Ask, "home")
    assert again._new_user("alice") != world.passkeys._new_user("alice")
