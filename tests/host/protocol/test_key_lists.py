"""Lists of keys, at both ends: the vectors, what is refused, and what outlives a restart."""

import json
import sys
from pathlib import Path

import pytest
from client_kit import content, write
from host_kit import DEVICE, refused
from warden_client import credentials, updates
from warden_client.errors import HostError
from warden_client.memory import Memory
from warden_client.protocol import key_lists
from warden_client.protocol.key_lists import Page
from warden_client.updates import Updates

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
sys.path.insert(0, str(VECTORS))

import make_key_lists  # noqa: E402  (the path must be set first)

V = json.loads((VECTORS / "key_lists.json").read_text("utf-8"))
SECRET, ID = b"s" * 32, b"i" * 8


def file(folder: Path, secret: bytes = SECRET, number: int = 100, appid: str = "home"):
    made = content() | {"appid": appid}
    made["updates"] = {
        "secret": secret.hex(),
        "number": number,
        "topic": f"warden/app/{appid}/keys",
        "ask": f"warden/app/{appid}/ask",
    }
    return credentials.read(write(folder / "home.json", made))


@pytest.fixture
def memory(tmp_path):
    with Memory(tmp_path / "home.state") as made:
        yield made


def entry(device: str, **changes):
    keys = {"policies": [b"p" * 32], "keys": [b"k" * 32]}
    return content(device=device)["devices"][0] | keys | changes


def page(
    number: int, previous: int | None, devices, position=0, last=True, list_id=ID, scopes=None
):
    made = Page(number, previous, position, last, scopes, devices)
    return key_lists.seal_page("home", SECRET, list_id, made)


def test_the_vectors_are_what_their_generator_writes():
    assert (VECTORS / "key_lists.json").read_text("utf-8") == make_key_lists.text()


def test_both_ends_meet_the_vectors(tmp_path, memory):
    secret = bytes.fromhex(V["secret"])
    reader = Updates(memory)
    reader.load(file(tmp_path, secret, V["known"], V["appid"]))
    assert key_lists.seal_ask("acme", secret, 100).hex() == V["ask"]
    list_id, change = key_lists.open_page("acme", secret, bytes.fromhex(V["change"]))
    assert key_lists.seal_page("acme", secret, list_id, change).hex() == V["change"]
    for each in V["lists"]:
        try:
            taken = reader.receive(bytes.fromhex(each["message"]), 0.0)
            outcome = "taken" if taken else "more"
        except HostError as error:
            outcome = error.code
        assert outcome == each["outcome"], each["name"]
    for each in V["asks"]:
        try:
            assert key_lists.open_ask("acme", secret, bytes.fromhex(each["message"])) == 100
            outcome = "taken"
        except HostError as error:
            outcome = error.code
        assert outcome == each["outcome"], each["name"]
    assert set(reader.current().devices) == {"front-1", "back-2"}
    assert reader.current().subscribe == ("iot-2/type/door/id/+/evt/#",)


def test_lists_outlive_a_restart_and_an_old_one_brings_no_key_back(tmp_path, memory):
    made = file(tmp_path)
    reader = Updates(memory)
    assert set(reader.load(made).devices) == {DEVICE}
    first = page(101, 100, [entry("D2")])
    assert reader.receive(first, 0.0)
    assert reader.receive(page(102, 101, [entry(DEVICE, keys=[b"n" * 32]), "D2"]), 0.0)
    assert not reader.receive(page(103, 102, []), 0.0)  # the answer: nothing is missing
    for _ in range(2):
        assert reader.number == 103
        assert {name: one.keys for name, one in reader.current().devices.items()} == {
            DEVICE: (b"n" * 32,)
        }
        with refused("replayed"):
            reader.receive(first, 0.0)
        with refused("replayed"):  # whole, and of pages
            reader.receive(page(103, None, [entry("D2")], 0, False), 0.0)
        reader = Updates(memory)
        reader.load(made)
    # Another export: it has another secret, and what was kept is no longer used.
    assert set(reader.load(file(tmp_path, b"t" * 32, 90)).devices) == {DEVICE}
    assert reader.number == 90
    with refused("wrong-application"):
        reader.receive(page(104, 103, []), 0.0)


def test_a_list_of_all_devices_replaces_them_once_it_is_whole(tmp_path, memory, monkeypatch):
    reader = Updates(memory)
    made = file(tmp_path)
    reader.load(made)
    assert not reader.receive(page(110, None, [entry("D2")], 0, False), 0.0)
    assert set(reader.current().devices) == {DEVICE}
    with refused("gap"):
        reader.receive(page(110, None, [entry("D4")], 2, True), 0.0)
    with refused("gap"):  # a page was missing: the list is of no use
        reader.receive(page(110, None, [entry("D3")], 1, True), 0.0)
    assert not reader.receive(page(111, None, [entry("D2")], 0, False), 0.0)
    with refused("gap"):  # a page of a list with another ID
        reader.receive(page(111, None, [], 1, True, b"j" * 8), 0.0)
    assert reader.receive(page(111, None, [entry("D3")], 1, True), 0.0)
    assert set(reader.current().devices) == {"D2", "D3"}
    assert set(Updates(memory).load(made).devices) == {"D2", "D3"}
    monkeypatch.setattr(updates, "MAX_BYTES", 400)
    reader.receive(page(112, None, [entry("D2")], 0, False), 0.0)
    with refused("cbor-limit"):
        reader.receive(page(112, None, [entry("D3")], 1, True), 0.0)
    assert set(reader.current().devices) == {"D2", "D3"}


@pytest.mark.parametrize(
    "payload",
    [
        1,
        [1, 101, 100, True, None],
        [1, 101, 100, True, None, [], 0],
        [2, 101, 100, True, None, []],
        [1, 1 << 32, None, True, None, []],
        [1, 101, "", True, None, []],
        [1, 101, -1, True, None, []],
        [1, 101, 101, True, None, []],
        [1, 101, None, 1, None, []],
        [1, 101, None, True, None, {}],
        [1, 101, None, True, None, [1]],
        [1, 101, None, True, [[]], []],
        [1, 101, None, True, [[], [1]], []],
    ],
)
def test_lists_of_another_form(payload):
    appid, secret = V["appid"], bytes.fromhex(V["secret"])
    good = make_key_lists.page(ID, 0, [1, 101, 100, True, None, []])
    assert key_lists.open_page(appid, secret, good)[1] == Page(101, 100, 0, True, None, [])
    with refused("bad-body"):
        key_lists.open_page(appid, secret, make_key_lists.page(ID, 0, payload))


@pytest.mark.parametrize("payload", [1, [1], [1, 100, 0], [2, 100], [1, -1], [1, 1 << 32]])
def test_asks_of_another_form(payload):
    with refused("bad-body"):
        key_lists.open_ask(V["appid"], bytes.fromhex(V["secret"]), make_key_lists.ask(payload))


def test_one_bad_entry_refuses_the_whole_list(tmp_path, memory):
    reader = Updates(memory)
    reader.load(file(tmp_path))
    for bad, code in (({"keys": [b"short"]}, "key-damaged"), ({"type": "a/b"}, "bad-name")):
        with refused(code):
            reader.receive(page(101, 100, [entry("D2"), entry("D3", **bad)]), 0.0)
    with refused("bad-name"):
        scopes = key_lists.Scopes(("a/#",), ())
        reader.receive(page(101, 100, [], scopes=scopes), 0.0)
    assert (reader.number, set(reader.current().devices)) == (100, {DEVICE})


def test_a_list_that_can_not_be_kept_is_not_used(tmp_path, memory):
    reader = Updates(memory)
    reader.load(file(tmp_path))
    memory._db.execute("PRAGMA query_only = ON")
    with refused("filesystem"):
        reader.receive(page(101, 100, [entry("D2")]), 0.0)
    assert (reader.number, set(reader.current().devices)) == (100, {DEVICE})
    memory._db.execute("PRAGMA query_only = OFF")
    assert reader.receive(page(101, 100, [entry("D2")]), 0.0)


def test_it_asks_at_once_and_then_seldom_until_it_is_answered(tmp_path, memory):
    reader = Updates(memory)
    reader.load(file(tmp_path))
    reader.ask_soon(10.0)
    asked = [now for now in range(10, 1010) if reader.due_ask(float(now)) is not None]
    assert asked[0] == 10
    assert 15 < len(asked) < 60
    reader.receive(page(101, 100, []), 1010.0)
    asked = [now for now in range(1010, 2010) if reader.due_ask(float(now)) is not None]
    assert asked[0] == 1610
    with refused("gap"):
        reader.receive(page(105, 104, []), 2010.0)
    assert reader.due_ask(2012.0) is not None


def test_a_state_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "home.state"
    path.touch()
    path.chmod(0o644)  # whatever the umask is
    with refused("key-permissions"):
        Memory(path)
