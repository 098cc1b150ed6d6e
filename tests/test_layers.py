"""Who may import whom, and the other rules of the house that a reader of one file can't see."""

import graphlib
import subprocess
from pathlib import Path

import layers
import pytest
from layers import Tree
from process_kit import PATIENCE_S

# A part of the tree whose rules are checked; tests are held to their length only.
PARTS = ("lib", "firmware", "boards", "tools", "examples", "tests")

# The packages whose __init__ is prose alone: the vault's holds the class Vault, and standalone is
# one module.
PACKAGES = {"warden." + name for name in layers.DEVICE_MAY_IMPORT} - {
    "warden.vault",
    "warden.standalone",
}

# What each feature may load, besides the base and the packages themselves: the use of the
# vault must not cost the memory of a TLS link. A new feature needs its line here.
SEALING = "crypto.ccm crypto.ct crypto.kdf crypto.rand"
# The class Vault lives in its package's __init__: a module of that package brings it, and every
# device has one open.
VAULT = SEALING + " vault vault.sealing wire.cbor wire.exact"
ALONE: dict[str, str] = {
    "board.app_failures": "wire.cbor wire.exact wire.names",
    "agent.agent": (
        "crypto.rand net.backoff net.clock net.link net.meter session.command session.incident"
        " wire.names"
    ),
    "agent.clock_order": VAULT + " vault.records",
    "agent.delivery": "session.outbox wire.cbor wire.exact wire.names",
    "agent.interface": "",
    "agent.leaving": "wire.names",
    "agent.incident_report": "session.incident session.incident_log wire.cbor wire.exact",
    "agent.tamper": "",
    "agent.link_failure": "",
    "agent.waits": "wire.names",
    "agent.build": VAULT
    + (
        " agent.agent net.backoff net.clock net.keepalive net.link net.meter net.mqtt"
        " net.verifier policy.policy session.command session.inbox session.incident"
        " vault.records wire.envelope wire.mqtt wire.names"
    ),
    "board.check": "",
    "gate.codes": VAULT + " vault.records",
    "gate.gate": (
        "crypto.ct crypto.kdf crypto.rand gate.machine session.command session.inbox"
        " wire.cbor wire.exact wire.envelope wire.names"
    ),
    "gate.machine": "crypto.ct crypto.rand",
    "net.backoff": "crypto.rand",
    "net.brokers": "crypto.rand net.backoff",
    "net.clock": "",
    "net.bare": "net.link net.meter",
    "net.serial": "crypto.rand net.bare net.link net.meter",
    "net.client_certificate": "net.verifier wire.cbor wire.exact",
    "net.failures": "",
    "net.keepalive": "",
    "net.chain": "wire.x509",
    "net.dial": "net.meter net.verifier",
    "net.http": "",
    "net.link": "net.meter",
    "net.login": "net.umqtt_adapter wire.mqtt",
    "net.meter": "",
    "net.clock_steps": "wire.cbor wire.exact",
    "net.pin_end": "",
    "net.mqtt": "net.keepalive wire.mqtt",
    "net.umqtt_adapter": "",
    "net.verifier": "",
    "ota.boot": "ota.result ota.romfs ota.slots wire.cbor wire.exact",
    "ota.boot_verify": "ota.romfs wire.cbor wire.exact",
    "ota.deferred": "ota.slots ota.update wire.cbor wire.exact wire.suit_plan",
    "ota.download": "",
    "ota.firmware_verify": "",
    "ota.https": "net.http",
    "ota.inflate": "",
    "ota.key_table": "crypto.ct",
    "ota.payload": VAULT + " vault.records",
    "ota.reuse": "ota.slots wire.cbor wire.exact",
    "ota.romfs": "",
    "ota.service": "ota.result ota.slots ota.update wire.cbor wire.exact",
    "ota.result": "",
    "ota.standby": "ota.result",
    "ota.slots": "wire.cbor wire.exact",
    "ota.trial": "ota.slots wire.cbor wire.exact",
    "ota.update": "ota.slots wire.cbor wire.exact",
    "ota.manifest_verify": (
        "ota.romfs ota.slots wire.cbor wire.exact wire.cbor_reader wire.cose"
        " wire.suit wire.suit_commands wire.suit_labels wire.suit_plan"
    ),
    "ota.image_verify": "ota.romfs ota.slots wire.cbor wire.exact",
    "policy.connection": "",
    "policy.incidents": "",
    "policy.otp": "",
    "policy.policy": "wire.cbor wire.exact",
    "provisioning.replace": "",
    "provisioning.bundle": VAULT + " policy.policy vault.records wire.names wire.x509",
    "rotation.apps": VAULT + " rotation.pending vault.records wire.names",
    "rotation.certificate": VAULT
    + " crypto.p256_key policy.policy provisioning.bundle vault.records wire.names wire.x509",
    "rotation.commands": VAULT + " net.verifier rotation.rotation vault.records",
    "rotation.networks": VAULT + " rotation.pending vault.records",
    "rotation.pending": "wire.cbor wire.exact",
    "rotation.pins_file": VAULT + " rotation.rotation vault.records wire.cbor_reader wire.cose",
    "rotation.policies": VAULT + " rotation.pending vault.records",
    "rotation.rotation": VAULT + " vault.records",
    "session.command": "wire.names",
    "session.inbox": (
        "crypto.ct crypto.kdf session.command wire.cbor wire.exact wire.envelope wire.names"
    ),
    "session.command_failure": "session.command wire.names",
    "session.incident": "",
    "session.incident_log": "wire.cbor wire.exact",
    "session.outbox": "",
    "session.plain": "crypto.ct crypto.rand wire.cbor wire.exact wire.names wire.strict_json",
    "session.resume": SEALING
    + " net.backoff session.message session.session wire.cbor wire.exact wire.envelope wire.names",
    "session.message": "wire.cbor wire.exact",
    "session.session": SEALING
    + " net.backoff session.message wire.cbor wire.exact wire.envelope wire.names",
    "standalone": (
        "crypto.rand net.backoff net.clock net.keepalive net.link net.meter net.mqtt"
        " net.verifier wire.cbor wire.exact wire.mqtt"
    ),
    "token.choice": VAULT + " net.backoff token.keeper token.ways vault.records",
    "token.commands": VAULT + " net.http net.verifier token.terms vault.records",
    "token.fetch": "net.http wire.strict_json",
    "token.keeper": VAULT + " net.backoff vault.records",
    "token.terms": "net.http net.verifier",
    "token.ways": VAULT + " vault.records",
    "vault": SEALING + " vault.sealing wire.cbor wire.exact",
    "vault.sealing": SEALING + " vault wire.cbor wire.exact",
    "vault.opening": VAULT,
    "vault.records": VAULT,
    "vault.rekey": VAULT + " vault.opening",
    "vault.secrets": VAULT + " wire.names",
    "vault.wipe": VAULT + " vault.opening",
}


def read_tree(repo: Path) -> Tree:
    paths = [path for part in PARTS for path in sorted((repo / part).rglob("*.py"))]
    return {path.relative_to(repo).as_posix(): path.read_text() for path in paths}


@pytest.fixture(scope="session")
def tree(repo: Path) -> Tree:
    return read_tree(repo)


@pytest.mark.parametrize("rule", layers.RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule, tree: Tree) -> None:
    broken = list(rule(tree))
    assert not broken, "\n" + "\n".join(broken)


OK = "x = 1\n"
# One rule broken by each: rule, tree, how many lines it must say.
BAD = [
    ("errors_imports_nothing", {"lib/warden/errors.py": "import sys\n"}),
    (
        "device_packages",
        {"lib/warden/crypto/a.py": "from ..wire import b\n", "lib/warden/wire/b.py": OK},
    ),
    (
        "device_packages",
        {"lib/warden/wire/a.py": "from ..crypto.b import c\n", "lib/warden/crypto/b.py": OK},
    ),
    (
        "device_packages",
        {
            "lib/warden/vault/a.py": "def f():\n    from ..hal import b\n",
            "lib/warden/hal/b.py": OK,
        },
    ),
    (
        "device_packages",
        {"lib/warden/hal/a.py": "from warden import vault\n", "lib/warden/vault/__init__.py": OK},
    ),
    (
        "device_packages",
        {
            "lib/warden/vault/a.py": "from warden import Device\n",
            "lib/warden/agent/device.py": OK,
        },
    ),
    ("device_packages", {"lib/warden/vault/a.py": "__import__('ha' + 'l')\n"}),
    (
        "acyclic",
        {
            "lib/warden/a.py": "from . import b\n",
            "lib/warden/b.py": "def f():\n    from .a import x\n",
        },
    ),
    ("hardware_in_hal", {"lib/warden/a.py": "def f():\n    import machine\n"}),
    ("hardware_in_hal", {"firmware/main.py": "from esp32 import NVS\n"}),
    (
        "boot_is_small",
        {
            "firmware/boot.py": "from warden.ota import a\n",
            "lib/warden/ota/a.py": "from ..net.link import b\n",
            "lib/warden/net/link.py": OK,
        },
    ),
    (
        "host_packages",
        {
            "tools/warden_host/store/a.py": "from warden_host.broker import b\n",
            "tools/warden_host/broker/b.py": OK,
        },
    ),
    (
        "host_packages",
        {
            "tools/warden_host/a.py": "def f():\n    from warden_host.cli.b import x\n",
            "tools/warden_host/cli/b.py": OK,
        },
    ),
    (
        "host_packages",
        {
            "tools/warden_host/devices/a.py": "from warden_host.broker.mosquitto.b import x\n",
            "tools/warden_host/broker/mosquitto/b.py": OK,
        },
    ),
    (
        "acyclic",
        {
            "tools/warden_host/sim/a.py": "from warden_host.sim import b\n",
            "tools/warden_host/sim/b.py": "from warden_host.sim.a import x\n",
        },
    ),
    ("broker_words", {"tools/warden_host/devices/a.py": "x = 'publishClientSend'\n"}),
    ("option_names", {"tools/warden_host/store/a.py": "x = f'give {y} with --key'\n"}),
    ("decimals_in_one_place", {"tools/warden_host/a.py": "x = int(y) if y.isdigit() else 0\n"}),
    ("sides_apart", {"tools/warden_host/a.py": "from warden.errors import ensure\n"}),
    ("sides_apart", {"lib/warden/a.py": "import warden_host.cli\n"}),
    ("sides_apart", {"lib/warden/a.py": "import warden_client.names\n"}),
    ("client_alone", {"tools/warden_client/a.py": "from warden_host import names\n"}),
    (
        "client_alone",
        {
            "tools/warden_host/a.py": "from warden_client.connection import Connection\n",
            "tools/warden_client/connection.py": OK,
        },
    ),
    ("no_assert", {"lib/warden/a.py": "def f(x):\n    assert x\n"}),
    ("no_broad_except", {"lib/warden/a.py": "try:\n    f()\nexcept:\n    pass\n"}),
    (
        "no_broad_except",
        {
            "lib/warden/a.py": "try:\n    f()\n"
            "except (ValueError, Exception):  # noqa: BLE001\n    pass\n"
        },
    ),
    ("no_typing", {"lib/warden/a.py": "from typing import Any\n"}),
    ("no_private_access", {"tools/warden_host/store/a.py": "def f(x):\n    return x._y\n"}),
    ("no_private_access", {"lib/warden/wire/a.py": "from .b import _c\n"}),
    ("no_private_access", {"lib/warden/policy/a.py": "x = 1\n\n\nx._y = 2\n"}),
    ("not_too_long", {"lib/warden/a.py": OK * 401}),
    ("not_too_long", {"firmware/boot.py": OK * (layers.FIRMWARE_LIMIT + 1)}),
    ("within_99_columns", {"tools/warden_host/a.py": f"# {'word ' * 20}\n"}),
    ("within_99_columns", {"tests/a.py": f'def f():\n    """{"word " * 20}"""\n'}),
]
GOOD = {
    "lib/warden/__init__.py": (
        "def __getattr__(name):\n    from .agent.device import Device\n"
        "    return __import__(name)\n"
    ),
    "lib/warden/errors.py": OK,
    "lib/warden/crypto/a.py": "from . import b\nfrom ..errors import x\n",
    "lib/warden/crypto/b.py": OK,
    "lib/warden/wire/envelope.py": "from ..crypto import a\nfrom . import cbor\n",
    "lib/warden/wire/cbor.py": OK,
    "lib/warden/hal/flash.py": "import machine\nfrom ..errors import x\n",
    "lib/warden/vault/__init__.py": (
        "TYPE_CHECKING = False\nif TYPE_CHECKING:\n"
        "    from typing import Any\n    from ..hal.flash import F\n"
        "try:\n    f()\n"
        "except Exception:  # a handler of the application may raise anything\n    pass\n"
    ),
    "lib/warden/agent/device.py": "from ..vault import V\nfrom ..hal.flash import F\n",
    "firmware/boot.py": "from warden import vault\n",
    "tools/warden_host/numerals.py": "x = text.isdigit()\n",
    "tools/warden_host/jsontext.py": f"x = '{'word ' * 20}'\n",
    "tools/warden_host/a.py": "import cbor2\nx = ['setpriv', '--pdeathsig', 'a -- b']\n",
    "tools/warden_host/cli/keys.py": "x = 'give --key PEM'\n",
    "tools/warden_host/cli/main.py": "from warden_host import a\nfrom warden_host.sim import b\n",
    "tools/warden_host/sim/b.py": "from warden_host.broker import backend\n",
    "tools/warden_host/broker/backend.py": "from warden_host.broker.mosquitto import c\n",
    "tools/warden_host/broker/mosquitto/c.py": "x = 'publishClientSend'\n",
    "tools/table.py": layers.GENERATED + "a program\n" + OK * 500,
}


@pytest.mark.parametrize(("name", "bad"), BAD)
def test_rule_fires(name: str, bad: Tree) -> None:
    found = list(getattr(layers, name)(bad))
    assert len(found) == 1, found


def test_every_rule_is_shown_to_fire() -> None:
    assert {rule.__name__ for rule in layers.RULES} == {name for name, _ in BAD}


@pytest.mark.parametrize("rule", layers.RULES, ids=lambda rule: rule.__name__)
def test_a_good_tree_passes(rule) -> None:
    assert list(rule(GOOD)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x._y", ["x._y"]),
        ("x._y._z()", ["x._y", "x._y._z"]),
        ("x._y = x._y + 1", ["x._y", "x._y"]),
        ("del x._y", ["x._y"]),
        ("getattr(x, '_y', None)", ["getattr(x, '_y', None)"]),
        ("setattr(x, '_y', 1)", ["setattr(x, '_y', 1)"]),
        ("from a import _b, c", ["import _b"]),
        ("class A:\n    def f(self, x):\n        return self._x._y", ["self._x._y"]),
        ("class A:\n    def f(self, other):\n        return other._x", ["other._x"]),
        ("class A:\n    pass\nA._x", ["A._x"]),
        # What is no access to another object.
        ("x.y, x.__class__, x.__dict__", []),
        ("x._replace(a=1), x._asdict()", []),
        ("from . import _b", []),
        ("getattr(x, 'y'), getattr(x, name), f(x, '_y')", []),
        (
            "class A:\n    _x = 1\n    def f(self):\n"
            "        return self._x, A._x, type(self)._x, super()._x\n"
            "    @classmethod\n    def g(cls):\n        return cls._x, getattr(cls, '_x')",
            [],
        ),
    ],
)
def test_private_accesses_are_counted(source: str, found: list[str]) -> None:
    assert sorted(text for _line, text in layers.private_accesses(source)) == sorted(found)


def test_the_packages_form_no_cycle() -> None:
    table = {name: may.split() for name, may in layers.DEVICE_MAY_IMPORT.items()}
    order = tuple(graphlib.TopologicalSorter(table).static_order())  # raises CycleError
    assert set(order) == set(table)


def features(tree: Tree) -> set[str]:
    """The device's modules that hold a feature: no primitive, no format, no hardware and none that
    joins it."""
    others = {"client", "host", "package", "base", "crypto", "wire", "hal"}
    return {
        name.removeprefix("warden.")
        for name, path in layers.modules_of(tree).items()
        if layers.kind(name) not in others and name not in layers.JOINERS | PACKAGES
    }


def test_every_feature_is_listed(tree: Tree) -> None:
    assert features(tree) == set(ALONE)


@pytest.mark.parametrize("feature", sorted(ALONE))
def test_feature_alone(
    feature: str, tree: Tree, repo: Path, micropython: str, umqtt_path: Path
) -> None:
    """On MicroPython, not by reading: what one import really loads."""
    code = (
        f"import sys; sys.path[:] = [{str(repo / 'lib')!r}, {str(umqtt_path)!r}, '.frozen']\n"
        f"import warden.{feature}\n"
        "print('\\n'.join(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [micropython, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = {name for name in done.stdout.split() if name.split(".")[0] == "warden"}
    loaded = {name.removeprefix("warden.") for name in ours - {"warden", "warden.errors"}}
    packages = {name.removeprefix("warden.") for name in PACKAGES}
    # Either of two implementations of one module, whichever the interpreter can run.
    private = {name for name in loaded if name.split(".")[-1].startswith("_")}
    assert loaded - packages - private - {feature} <= set(ALONE[feature].split())
    assert not layers.HARDWARE & set(done.stdout.split())
