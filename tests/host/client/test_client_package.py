"""The client package alone: its wheel, and files that it does not take."""

import json
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from client_kit import content, write
from host_kit import DEVICE, refused
from warden_client import credentials
from warden_client.memory import Known, Memory
from warden_client.protocol.freshness import Proof

REPO = Path(__file__).resolve().parents[3]
ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import warden_client
from warden_client import Application
assert warden_client.__file__.startswith(sys.argv[1])
assert not [name for name in sys.modules if name.startswith(("warden_host", "warden_build"))]
try:
    warden_client.Nothing
except AttributeError:
    print("alone")
"""


def test_its_wheel_is_enough(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    folder = REPO / "tools" / "warden_client"
    (built,) = WheelBuilder(str(folder)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(tmp_path / "site")
        names = {name for name in wheel.namelist() if ".dist-info" not in name}
    tracked = {path.relative_to(folder.parent).as_posix() for path in folder.rglob("*.py")}
    assert names == tracked | {"warden_client/py.typed"}
    command = [sys.executable, "-c", ALONE, str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("alone\n", "")


def test_the_ten_lines_of_the_start_are_the_same_everywhere():
    readme = (REPO / "tools" / "warden_client" / "README.md").read_text()
    start = readme.split("```python\n")[1].split("```")[0]
    assert start in (REPO / "docs" / "applications.md").read_text()
    assert len([line for line in start.splitlines() if line]) <= 10
    compile(start, "README.md", "exec")


def test_the_file_is_read_back(tmp_path):
    read = credentials.read(write(tmp_path / "f", content(proven=[3, 4, 5])))
    assert read.devices[DEVICE].proven == Proof(3, 4, 5)
    assert read.devices[DEVICE].keys == (b"h" * 32,)
    assert "secret" not in repr(read)
    assert (b"h" * 32).hex() not in repr(read.devices[DEVICE])


OF_LISTS = {
    "number": 7,
    "topic": "warden/app/home/keys",
    "ask": "warden/app/home/ask",
    "secret": "ab" * 32,
}


def broken(**changes: object) -> bytes:
    return json.dumps(content() | changes).encode()


def test_a_file_with_lists_of_keys_is_read(tmp_path):
    read = credentials.read(write(tmp_path / "f", content() | {"updates": OF_LISTS}))
    assert (read.list_number, read.list_secret) == (7, b"\xab" * 32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"kind": "warden application"}',
        broken(kind="another"),
        broken(format=2),
        broken(broker=[]),
        broken(broker={"host": "h", "port": 0, "user": "", "password": "", "client_id": ""}),
        broken(trust={"ca": "", "pins": []}),
        broken(trust={"ca": "", "pins": ["GG" * 32]}),
        broken(devices=[1]),
        broken(appid=7),
        broken(updates={"number": -1}),
        broken(updates=OF_LISTS | {"number": 1 << 32}),
        broken(updates=OF_LISTS | {"topic": "warden/app/attic/keys"}),
        broken(updates=OF_LISTS | {"ask": "warden/app/attic/ask"}),
        broken(updates=OF_LISTS | {"ask": None}),
        broken(updates=OF_LISTS | {"secret": "aa"}),
        json.dumps(content(mode="other")).encode(),
        json.dumps(content(keys=[])).encode(),
        json.dumps(content(keys=["aa"])).encode(),
        json.dumps(content(policies=[])).encode(),
        json.dumps(content(max_message=1 << 20)).encode(),
        json.dumps(content(proven=[1, True, 0])).encode(),
        json.dumps(content(event_number=-1)).encode(),
        json.dumps(content(device="../x")).encode(),
        json.dumps(content(mode="plain", uid="zz")).encode(),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, data):
    path = tmp_path / "home.json"
    path.touch(0o600)
    path.write_bytes(data)
    with refused("key-damaged"):
        credentials.read(path)


def test_a_file_that_others_can_read_is_no_secret(tmp_path):
    path = write(tmp_path / "home.json", content())
    path.chmod(0o640)
    with refused("key-permissions"):
        credentials.read(path)
    with refused("key-missing"):
        credentials.read(tmp_path / "other.json")


def test_the_memory_keeps_each_key_and_excludes_another_process(tmp_path):
    path = tmp_path / "home.state"
    with Memory(path) as memory:
        assert memory.known(b"k") is None
        memory.keep(b"k", Known(Proof(1, 2, 3), 4, "why"))
        with refused("app-running"):
            Memory(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with Memory(path) as memory:
        assert memory.known(b"k") == Known(Proof(1, 2, 3), 4, "why")
    path.write_bytes(b"no database" * 100)
    with refused("key-damaged"):
        Memory(path)
    with refused("key-permissions"):
        Memory(tmp_path)


def test_a_memory_of_a_newer_package_is_left_as_it_is(tmp_path):
    path = tmp_path / "home.state"
    with Memory(path):
        pass
    database = sqlite3.connect(path)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    database.execute(f"PRAGMA user_version = {version + 1}")
    database.close()
    before = path.read_bytes()
    with refused("key-damaged") as error:
        Memory(path)
    assert "is of a newer package" in str(error)
    assert path.read_bytes() == before
    sqlite3.connect(path, timeout=0).execute("BEGIN EXCLUSIVE")  # it is closed
