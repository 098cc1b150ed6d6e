"""Provision a device: its secrets, its files, its account at the broker, its record in fleet.db.

In this order: the device gets its bundle, then the broker its account, then fleet.db its keys, in
one transaction that is not open while the broker is asked, since all others would wait for it.
After any failure no account is left whose secret no device has.
"""

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warden_host import filelock, jsontext, names
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.backend import open_registry
from warden_host.devices import bundle
from warden_host.errors import HostError
from warden_host.fleet import device_tree, pki
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.otp import enrol
from warden_host.protocol import policy
from warden_host.release import image, signing_key
from warden_host.store.store import App, Device, Pair, Store

_TIMEOUT_S = 60
_TURN_S = 2.0 * _TIMEOUT_S  # longer than one device takes
_MAX_ANSWER = 4096

Deliver = Callable[[device_tree.Tree, Path, bytes, bytes], None]


@dataclass(frozen=True)
class Order:
    """A request to provision. apps None: all applications of the type. otp: the policy's gate."""

    device: str
    type: str
    board: str = "UNIX"
    plain: bool = False
    apps: tuple[str, ...] | None = None
    commands: tuple[str, ...] = ()
    again: bool = False
    app_source: Path | None = None
    otp: dict[str, Any] | None = None
    strict: bool = False
    limits: dict[str, int] = field(default_factory=dict)  # of policy.LIMITS
    pin: bytes = field(default=b"", repr=False)  # of a board whose root key wants one


def provision(fleet: Fleet, store: Store, order: Order, deliver: Deliver | None = None) -> Device:
    """Provision a device and return its record.

    deliver(tree, home, bundle, pin): hands the bundle to the device whose files are in home; by
    default to a simulated one. Raises HostError where the device does not install it.
    Raises: device-exists, app-unknown, provision-failed, timed-out, and what the parts raise.
    """
    home = fleet.simulated(order.device)
    names.check_id(order.type, "device type")
    # No device's folder: an ID holds no dot.
    with filelock.wait_for_lock(
        home.with_name(f"{home.name}.new.lock"), f"provisioning {order.device}", _TURN_S
    ):
        return _provision(fleet, store, order, deliver or _send_bundle)


def _provision(fleet: Fleet, store: Store, order: Order, deliver: Deliver) -> Device:
    """Provision the device while the lock on its name is held."""
    _check_name(store, order)
    tree = device_tree.tree()
    tree.board(order.board)
    if order.otp is not None and not tree.has_part(order.board, "KEYPAD"):
        raise HostError(
            "bad-argument",
            f"board {order.board} has no keypad to type a code at",
            "name it as KEYPAD in board.py, or provision it without a gate",
        )
    device = _new_device(fleet, store, order)
    password = device_password()
    client_id = names.device_client(device.type, device.device)
    codes = enrol.bundle_part(store, device.device, order.otp)
    release = signing_key.record(fleet, store.vendor(), device.type)
    data = bundle.build(
        device,
        host=fleet.settings.broker.host,
        port=fleet.settings.broker.device_port,
        client_id=client_id,
        password=password,
        authorities=[pki.load_ca(fleet.keys).der()],
        pins=list(pki.load_pins(fleet.keys)),
        release=release,
        otp=codes,
    )
    home = fleet.simulated(device.device)
    fresh = home.with_name(f".{home.name}.new")  # no device's folder: an ID holds no dot
    try:
        write_files(tree, fresh, order.board, order.app_source, release is not None)
    except BaseException:  # such as a full disk
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    deliver(tree, fresh, data, order.pin)
    account = device_account(device.type, device.device, password)
    with open_registry(fleet) as accounts, _replace_folder(fresh, home):
        # Again, under the registry's lock: from here on the name can't be given to another.
        known = _check_name(store, order)
        if known is not None and known.type != device.type:
            old = device_account(known.type, known.device, "")
            accounts.remove(old.username, old.role)
        accounts.put(account)
        try:
            with store.transaction():
                store.add_device(device)
                if codes is not None:
                    store.end_enrolment(device.device)
        except BaseException:
            # The old account is gone: its device is provisioned again, or stays out.
            with contextlib.suppress(HostError):
                accounts.remove(account.username, account.role)
            raise
    return device


def _check_name(store: Store, order: Order) -> Device | None:
    """Return the device that has the name now, or None; raises device-exists."""
    known = store.find(order.device)
    if known is not None and not order.again:
        raise HostError(
            "device-exists",
            f"device {order.device} was provisioned already",
        )
    return known


@contextlib.contextmanager
def _replace_folder(fresh: Path, home: Path) -> Iterator[None]:
    """Put the new folder in the old one's place; put it back where the block fails."""
    old = home.with_name(f".{home.name}.old")
    if old.exists():  # a power cut between two renames
        if home.exists():
            shutil.rmtree(old)
        else:
            old.rename(home)
    if home.exists():
        home.rename(old)
    try:
        fresh.rename(home)
        yield
    except BaseException:
        if home.exists():
            home.rename(fresh)
        if old.exists():
            old.rename(home)
        raise
    if old.exists():
        shutil.rmtree(old)


def write_files(
    tree: device_tree.Tree, home: Path, board: str, app_source: Path | None, slots: bool
) -> None:
    """Write home/root, the device's "/", and home/fuses, its stand-in for eFuses, both new.

    app_source: app.py or a folder; None for the example. slots: whether it gets updates.
    """
    if home.exists():
        shutil.rmtree(home)
    root = home / "root"
    library = root / "lib"
    home.mkdir(mode=0o700, parents=True)
    (home / "fuses").mkdir(mode=0o700)
    library.mkdir(parents=True)
    _copy_package(tree.library, library / "warden")
    _copy_package(device_tree.umqtt(), library / "umqtt")
    lines = (tree.board(board) / "board.py").read_text().splitlines(keepends=True)
    kept = [line for line in lines if slots or not line.startswith("SLOTS = ")]
    (library / "board.py").write_text("".join(kept))
    for name in ("boot.py", "main.py"):
        source = tree.firmware / name
        if not source.is_file():
            raise HostError("tree-missing", f"firmware/{name} is not there")
        shutil.copyfile(source, root / name)
    (root / "app").mkdir()
    if app_source is None:
        example = tree.root / "examples" / "relay" / "app.py"
        app_source = example if example.is_file() else None
    if app_source is not None:
        if app_source.is_dir():
            _copy_application(app_source, root / "app", "")
        elif app_source.is_file():
            (root / "app" / "app.py").write_bytes(image.content(app_source, app_source.name))
        else:
            raise HostError(
                "bad-argument",
                f"there is no application at {app_source}",
                "name app.py, or a folder with it",
            )


def _copy_package(source: Path, target: Path) -> None:
    """Copy a package of our own. Unlike shutil's copytree() it ends at the first OSError."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_dir():
            if path.name != "__pycache__":
                _copy_package(path, target / path.name)
        elif path.suffix != ".pyc":
            shutil.copyfile(path, target / path.name)


def _copy_application(source: Path, target: Path, inside: str) -> None:
    """Copy what a release of the same folder would hold. Raises image-failed."""
    for path, shown, is_folder in image.entries(source, inside):
        if is_folder:
            (target / path.name).mkdir()
            _copy_application(path, target / path.name, shown + "/")
        else:
            (target / path.name).write_bytes(image.content(path, shown))


def device_argv(tree: device_tree.Tree, home: Path, *rest: str, heapsize: str = "") -> list[str]:
    """Return the argv that starts a simulated device."""
    heap = ["-X", f"heapsize={heapsize}"] if heapsize else []
    binary = device_tree.micropython()
    return [binary, *heap, str(tree.start), str(home / "root"), str(home / "fuses"), *rest]


def _new_device(fleet: Fleet, store: Store, order: Order) -> Device:
    registered = {app.appid: app for app in store.apps()}
    if order.apps is None:
        chosen = [app for app in registered.values() if order.type in app.types]
    else:
        chosen = [_serving(registered, appid, order.type) for appid in dict.fromkeys(order.apps)]
    authority = tuple(dict.fromkeys(fleet.settings.commands + order.commands))
    for verb in authority:
        names.check_grant(verb)
    grants = [(AUTHORITY, authority)] + [(app.appid, app.commands) for app in chosen]
    pairs = tuple(
        Pair(appid, secrets.token_bytes(32), secrets.token_bytes(32), commands)
        for appid, commands in grants
    )
    mode = "plain" if order.plain else "sealed"
    record = policy.record(mode=mode, otp=order.otp, strict=order.strict, **order.limits)
    return Device(order.device, order.type, order.board, mode, record, pairs=pairs)


def _serving(registered: dict[str, App], appid: str, type_: str) -> App:
    app = registered.get(appid)
    if app is None:
        raise HostError(
            "app-unknown", f"no application {appid} in this fleet", "`warden app list` lists them"
        )
    if type_ not in app.types:
        raise HostError(
            "bad-argument", f"application {appid} does not serve devices of type {type_}"
        )
    return app


def _send_bundle(tree: device_tree.Tree, home: Path, data: bytes, pin: bytes) -> None:
    """Run the device's own provisioning; secrets are sent to its standard input only."""
    frames = bundle.framed(data) + (bundle.framed(pin) if pin else b"")
    try:
        result = subprocess.run(
            device_argv(tree, home, "provision"),
            input=frames,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(
            "provision-failed", f"the device did not answer ({type(error).__name__})"
        ) from None
    try:
        answer = jsontext.parse_object(result.stdout.splitlines()[-1], _MAX_ANSWER)
        good = answer["ok"] is True
        reason = str(answer.get("error", ""))[:200]
    except (HostError, IndexError, KeyError):
        good, reason = False, ""
    if not good or result.returncode != 0:
        text = reason or result.stderr.decode(errors="replace").strip().split("\n")[-1][:200]
        raise HostError(
            "provision-failed",
            f"the device refused its bundle: {jsontext.printable(text) or 'it wrote nothing'}",
            f"its files are in {home}; give the same command again once the cause is gone",
        )
