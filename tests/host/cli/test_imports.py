"""Verify, by modules and not by seconds, that frequent commands load only what they need."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from warden_host.protocol import policy
from warden_host.store.devices import Device
from warden_host.store.store import Store

REPO = Path(__file__).resolve().parents[3]
# Only what prints for people, opens a fleet or calls `serve` needs these.
LATE = ("json.", "rich", "socket", "tomllib", "warden_host.fleet", "warden_host.service")
# Only other commands need these.
HEAVY = (
    "_hashlib",
    "asyncio",
    "cbor2",
    "cryptography",
    "mpremote",
    "paho",
    "prompt_toolkit",
    "rich.progress",
    "rich.table",
    "sqlite3",
    "tomli_w",
    "warden_client.protocol",
    "warden_host.broker",
    "warden_host.devices",
    "warden_host.engine.engine",
    "warden_host.protocol",
    "warden_host.release",
    "warden_host.rollout",
    "warden_host.sim",
    "warden_host.store",
)
PROGRAM = """
import json, sys
from warden_host.cli import main
code = main.run(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted(sys.modules)}))
"""


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """Return the exit code of one call in a new interpreter, and the modules that it loaded."""
    environment = os.environ | {"PYTHONPATH": str(REPO / "tools")}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return result["code"], set(result["modules"])


def late_of(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith(LATE)}


def heavy_of(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith(HEAVY)}


def test_the_list_of_commands_loads_none_of_them():
    code, modules = loaded("--help")
    assert code == 0
    parts = {name.rpartition(".")[2] for name in modules if name.startswith("warden_host.cli.")}
    assert parts == {"common", "exit_codes", "main", "recording", "screen"}
    assert not heavy_of(modules)
    assert not late_of(modules - loaded_by("click") - loaded_by("json"))


def loaded_by(module: str) -> set[str]:
    """Return the modules that one of others brings with it."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return set(done.stdout.decode().split())


@pytest.mark.parametrize("command", ["send", "watch"])
def test_the_help_of_a_command_loads_no_other(command):
    code, modules = loaded(command, "--help")
    assert code == 0
    assert f"warden_host.cli.{command}" in modules
    assert not heavy_of(modules)


@pytest.mark.parametrize(
    ("command", "json"),
    [(["send", "D1", "set_relay", "{}"], []), (["watch"], []), (["watch"], ["--json"])],
)
def test_a_call_to_a_fleet_that_is_not_served_loads_no_more(folder, command, json):
    code, modules = loaded("--fleet", str(folder), *command, *json)
    assert code == 3
    assert "warden_host.control_client" in modules
    assert "warden_host.service.control" not in modules
    assert not heavy_of(modules)


def test_a_command_that_needs_them_loads_them():
    """Verify that the list above names modules as they are loaded."""
    code, modules = loaded("serve", "--help")
    assert code == 0
    assert {"warden_host.broker", "warden_host.release", "paho"} <= modules
    code, modules = loaded("nosuch")
    assert code == 2
    assert "rich.text" in modules


def test_the_list_of_devices_loads_a_part_of_the_store(tmp_path: Path) -> None:
    fleet = str(tmp_path / "fleet")
    assert loaded("init", fleet)[0] == 0
    parts = ("database", "devices", "endings", "groups", "incidents", "listing", "reactions")
    wanted = {f"warden_host.store.{one}" for one in (*parts, "schema", "key_triggers")}
    for names in ((), ("D1", "D2")):  # with a note below the table, too
        with Store(Path(fleet) / "fleet.db") as store:
            for name in names:
                store.add_device(Device(name, "lock", "UNIX", "sealed", policy.record()))
        code, modules = loaded("--fleet", fleet, "devices")
        assert code == 0
        assert {name for name in modules if name.startswith("rich")} == set()
        assert {name for name in modules if name.startswith("warden_host.store.")} == wanted
