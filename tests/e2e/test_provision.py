"""The device's own provisioning, run as the host runs it: a bundle over standard input, one line
of JSON back."""

import json
import shutil
import subprocess
from pathlib import Path

import cbor2
import pytest
from process_kit import PATIENCE_S

SECRET = b"the broker's password"
POLICY = {
    "v": 1,
    "mode": "sealed",
    "validate": True,
    "store": True,
    "max_message": 2048,
    "stall_ms": 5000,
    "handshake_ms": 20000,
    "keepalive_s": 60,
    "backoff_min_ms": 1000,
    "backoff_max_ms": 60000,
}


def encode(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def bundle(**changes: object) -> bytes:
    fields = {
        "v": 1,
        "identity": ["lamp", "lamp-1"],
        "broker": ["broker.example", 8883, b"d:lamp:lamp-1", SECRET, "d:lamp:lamp-1"],
        "trust": [[b"certificate"], [bytes(32), bytes(31) + b"1"]],
        "policy": encode(POLICY),
        "apps": [["authority", bytes(32), True, []]],
        "network": None,
    }
    return encode({**fields, **changes})


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Board:
    """A simulated board with nothing on it but the firmware."""

    def __init__(self, repo: Path, home: Path, micropython: str, umqtt: Path) -> None:
        self.repo, self.home, self.micropython = repo, home, micropython
        library = home / "root" / "lib"
        library.mkdir(parents=True)
        (home / "fuses").mkdir()
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repo / "lib" / "warden", library / "warden", ignore=skip)
        shutil.copytree(umqtt / "umqtt", library / "umqtt", ignore=skip)
        shutil.copyfile(repo / "boards" / "UNIX" / "board.py", library / "board.py")
        for name in ("boot.py", "main.py"):
            shutil.copyfile(repo / "firmware" / name, home / "root" / name)

    def provision(self, standard_input: bytes) -> "subprocess.CompletedProcess[bytes]":
        start = str(self.repo / "boards" / "UNIX" / "_boot.py")
        folders = [str(self.home / "root"), str(self.home / "fuses")]
        return subprocess.run(
            [self.micropython, start, *folders, "provision"],
            input=standard_input,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def files(self) -> dict[str, bytes]:
        """What provisioning left: the vault's files and the fuses', without the watchdog's, which
        changes as it is fed."""
        found = [*(self.home / "root" / "data").rglob("*"), *(self.home / "fuses").rglob("*")]
        files = {path.name: path.read_bytes() for path in found if path.is_file()}
        files.pop("watchdog", None)
        return files

    def refuses(self, standard_input: bytes, code: str) -> None:
        done = self.provision(standard_input)
        assert done.returncode == 1, done.stdout + done.stderr
        line = done.stdout.splitlines()[-1]  # boot.py may have found something wrong before
        answer = json.loads(line)
        assert (answer["ok"], answer["error"]) == (False, code)
        assert answer["text"]
        assert SECRET not in done.stdout + done.stderr


@pytest.fixture
def board(repo: Path, tmp_path: Path, micropython: str, umqtt_path: Path) -> Board:
    return Board(repo, tmp_path, micropython, umqtt_path)


def test_a_good_bundle_once(board: Board) -> None:
    done = board.provision(framed(bundle()))
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"ok": true}\n', b"")
    files = board.files()
    assert {"key", "commit", "rootkey"} <= set(files)
    for data in files.values():
        assert SECRET not in data
    board.refuses(framed(bundle()), "already-provisioned")
    assert board.files() == files


def test_input_after_the_bundle_is_not_read(board: Board) -> None:
    assert board.provision(framed(bundle()) + b"more").returncode == 0


def test_a_wipe_that_was_cut_is_finished_first(board: Board) -> None:
    """The mark in the key's place says that a vault was being destroyed: its owner need not wait
    for another start."""
    assert board.provision(framed(bundle())).returncode == 0
    before = board.files()
    (board.home / "root" / "data" / "key").write_bytes(b"warden: wiped")
    assert board.provision(framed(bundle())).returncode == 0
    after = board.files()
    assert not [name for name in before if name != "rootkey" and before[name] == after.get(name)]
    board.refuses(framed(bundle()), "already-provisioned")


REFUSED = {
    "nothing": b"",
    "half a length": b"\x00\x00",
    "a length of zero": framed(b""),
    "cut short": framed(bundle())[:-1],
    "only a length": b"\x00\x00\x10\x00",
    "too large": framed(bytes(16385)),
    "a length without end": b"\xff\xff\xff\xff" + bytes(100),
    "garbage": framed(b"\xff" * 100),
    "text": b'{"v": 1}\n' * 20,
    "not a map": framed(encode([1, 2, 3])),
    "another version": framed(bundle(v=2)),
    "no authority": framed(bundle(apps=[["home", bytes(32), False, []]])),
    "one pin": framed(bundle(trust=[[b"certificate"], [bytes(32)]])),
    "bytes left over": framed(bundle() + b"\x00"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_bundle_leaves_nothing(board: Board, name: str) -> None:
    board.refuses(REFUSED[name], "bad-bundle")
    assert board.files() == {}


def test_a_bad_policy_leaves_nothing(board: Board) -> None:
    policy = encode({**POLICY, "max_message": 1 << 20})
    board.refuses(framed(bundle(policy=policy)), "bad-policy")
    assert board.files() == {}


def test_after_a_refusal_a_good_one_is_taken(board: Board) -> None:
    board.refuses(framed(b"\xff" * 10), "bad-bundle")
    assert board.provision(framed(bundle())).returncode == 0


@pytest.mark.parametrize(
    "line", ["", 'STORE = ("punched cards", "/data")', 'ROOT_KEY = ("post-it", "/fuses/rootkey")']
)
def test_a_board_that_is_not_described(board: Board, line: str) -> None:
    description = board.home / "root" / "lib" / "board.py"
    if line:
        description.write_text(description.read_text() + line + "\n")
    else:
        description.unlink()
    board.refuses(framed(bundle()), "no-board")
    assert board.files() == {}


@pytest.mark.parametrize(
    ("old", "new", "code", "text"),
    [
        ('NETWORK = "wired"', 'NETWORK = "wifi"', "no-network", "Wi-Fi"),
        ('NETWORK = "wired"', 'NETWORK = "wify"', "no-board", "NETWORK has no kind 'wify'"),
        ("WATCHDOG =", "WATCHDGO =", "no-board", "do you mean WATCHDOG?"),
        ('STORE = ("file", "/data")', "", "no-board", "STORE is missing"),
        ('STORE = ("file", "/data")', 'STORE = ("file"', "no-board", "of board.py is not Python"),
    ],
)
def test_what_is_wrong_in_board_py_is_told_in_one_sentence(
    board: Board, old: str, new: str, code: str, text: str
) -> None:
    path = board.home / "root" / "lib" / "board.py"
    path.write_text(path.read_text().replace(old, new))
    done = board.provision(framed(bundle()))
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer["ok"], answer["error"]) == (False, code)
    assert text in answer["text"]
    assert not board.files()
    if code == "no-board":
        assert f"board.py: {answer['text']}".encode() in done.stdout


def test_a_board_that_joins_wifi_takes_its_networks(board: Board) -> None:
    path = board.home / "root" / "lib" / "board.py"
    path.write_text(path.read_text().replace('"wired"', '("wifi", "DE")'))
    networks = [["garden", b"a password"], ["cafe", b""]]
    done = board.provision(framed(bundle(network=networks)))
    assert json.loads(done.stdout.splitlines()[-1]) == {"ok": True}


def test_what_is_wrong_in_board_py_is_told_at_each_start(board: Board) -> None:
    """By boot.py or main.py, without a traceback through Warden."""
    assert board.provision(framed(bundle())).returncode == 0
    path = board.home / "root" / "lib" / "board.py"
    (board.home / "root" / "app").mkdir()
    (board.home / "root" / "app" / "app.py").write_text(
        "from warden import Device\nprint('app')\nDevice.from_board()\n"
    )
    good = path.read_text()
    for bad, sentence, app in (
        (good.replace("file", "fiel", 1), "STORE has no kind 'fiel'", True),
        (good.replace('"/data")', '"/data"', 1), "line ", False),
    ):
        path.write_text(bad.replace("SLOTS", "_SLOTS"))
        program = [board.micropython, str(board.repo / "boards" / "UNIX" / "_boot.py")]
        folders = [str(board.home / "root"), str(board.home / "fuses")]
        done = subprocess.run(
            [*program, *folders], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert f"board.py: {sentence}" in done.stdout, done.stdout + done.stderr
        assert ("app\n" in done.stdout) is app
