"""`warden provision --bundle`: a device's secrets as a new file, for another way onto a board."""

from pathlib import Path

from warden_client import secretfile

from warden_host.devices import bundle, provision
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Device, Store


def check_new(file: Path) -> None:
    """Raise bad-argument for a file that is there, or whose folder is not."""
    if file.exists():
        raise HostError("bad-argument", f"{file} is there already", "name a new file")
    if not file.parent.is_dir():
        raise HostError("bad-argument", f"there is no folder {file.parent}")


def make(fleet: Fleet, store: Store, order: provision.Order, file: Path) -> Device:
    """Provision a device and write its bundle to a new file; return the device's record.

    Where that fails no file is left with secrets that the fleet does not have. Raises as
    provision.provision_board().
    """
    before = store.find(order.device)
    written = False

    def write(data: bytes, pin: bytes) -> None:
        nonlocal written
        check_new(file)
        written = True
        secretfile.write(file, bundle.framed(data) + (bundle.framed(pin) if pin else b""))

    try:
        return provision.provision_board(fleet, store, order, write)
    except BaseException:
        if written and store.find(order.device) == before:
            file.unlink(missing_ok=True)
        raise
