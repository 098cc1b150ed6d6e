"""Many boards from one list: the list checked as a whole, the next board found, a log kept."""

import csv
import io
import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from warden_client import secretfile

from warden_host import names
from warden_host.boards import ports
from warden_host.boards.records import BoardRecord
from warden_host.devices import bundle, provision
from warden_host.devices.provision import MAX_PIN, Order
from warden_host.errors import HostError
from warden_host.fleet import board_file
from warden_host.fleet.board_file import BoardFile
from warden_host.fleet.fleet import Fleet
from warden_host.otp import enrol
from warden_host.protocol import policy
from warden_host.store.store import Store

COLUMNS = ("device", "type", "board", "source", "apps", "otp", "pin")
_MAX_BYTES = 1 << 20
_MAX_LINES = 10_000
_SHOWN = 20  # errors of a list
_SHOWN_TEXT = 200  # characters of one
_POLL_S = 0.2
_GONE_S = 5.0  # for which a port is away when its board was unplugged; a reset takes less

# gate(board, source): the policy's `otp` for a board; source: none or a kind, or None for the rest
Gate = Callable[[BoardFile, str | None], dict[str, Any] | None]


@dataclass(frozen=True)
class Entry:
    """A line of the list. done: its device is live already."""

    line: int
    order: Order
    done: bool

    def given(self, networks: tuple[bundle.Network, ...]) -> "Entry":
        """Return it with the networks, now with their passwords."""
        return replace(self, order=replace(self.order, networks=networks))


def read(path: Path, template: Order, gate: Gate, fleet: Fleet, store: Store) -> list[Entry]:
    """Return the entries of a CSV file with a header line. Raises bad-list with all its errors.

    template: what a line does not say, and an empty field. apps: separated by blanks. A file with
    a column pin is a secret: key-permissions where others can read it. What holds for each device,
    such as the name in the server's certificate, is raised as check_order() has it
    """
    lines = _lines(path)
    entries, errors = [], []
    seen: dict[str, int] = {}
    for number, fields in lines:
        try:
            entry = _entry(number, fields, template, gate, fleet, store, path.parent)
            first = seen.setdefault(entry.order.device, number)
            if first != number:
                raise HostError("bad-list", f"{entry.order.device} is in line {first}, too")
            entries.append(entry)
        except HostError as error:
            errors.append(f"line {number}: {error.text[:_SHOWN_TEXT]}")
    if errors:
        more = [f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
        raise HostError("bad-list", f"{path}: " + "; ".join(errors[:_SHOWN] + more))
    if not entries:
        raise HostError("bad-list", f"{path} names no device")
    provision.check_order(fleet, store, entries[0].order, is_new=False)  # what holds for all
    return entries


def _lines(path: Path) -> "list[tuple[int, dict[str | None, str | list[str] | None]]]":
    """Return each line's number and fields, by the names of the first line."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise HostError("bad-list", f"{path} can't be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise HostError("bad-list", f"{path} has more than {_MAX_BYTES:,} bytes")
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        unknown = [name for name in header if name not in COLUMNS]
        if "device" not in header or unknown or len(set(header)) != len(header):
            said = "there is no column device" if "device" not in header else "one is there twice"
            if unknown:
                said = f"unknown: {', '.join(unknown)[:_SHOWN_TEXT]}"
            raise HostError(
                "bad-list", f"{path}: columns, between commas, are {', '.join(COLUMNS)}; {said}"
            )
        if "pin" in header:
            secretfile.check_mode(status, path)
        lines = list(itertools.islice(((reader.line_num, row) for row in reader), _MAX_LINES + 1))
    except UnicodeDecodeError:
        raise HostError("bad-list", f"{path} is not UTF-8") from None
    except csv.Error as error:
        raise HostError("bad-list", f"{path} is no CSV: {error}") from None
    if len(lines) > _MAX_LINES:
        raise HostError("bad-list", f"{path} names more than {_MAX_LINES:,} devices")
    return lines


def _entry(
    number: int,
    fields: "dict[str | None, str | list[str] | None]",
    template: Order,
    gate: Gate,
    fleet: Fleet,
    store: Store,
    folder: Path,
) -> Entry:
    if None in fields or None in fields.values():
        raise HostError("bad-list", "it has not as many fields as the first line")
    given = {str(name): str(value).strip() for name, value in fields.items()}
    source = template.app_source
    if given.get("source"):
        source = folder / given["source"]
        if not (source.is_file() or (source / "app.py").is_file()):
            raise HostError("bad-list", f"there is no application at {given['source']}")
    board = given.get("board") or template.board
    if not board:
        raise HostError("bad-list", "no board is named")
    if template.own_board is not None and board != template.board:
        raise HostError(
            "bad-list", f"the board.py that was given is for {template.board}, not for {board}"
        )
    described = template.own_board or board_file.load(board)
    kind, kinds = given.get("otp") or None, ("none", *policy.OTP_SOURCES)
    if kind not in (None, *kinds):
        raise HostError("bad-list", f"otp is one of {', '.join(kinds)}")
    order = replace(
        template,
        device=names.check_id(given["device"], "device ID"),
        type=names.check_id(given.get("type") or template.type, "device type"),
        board=board,
        app_source=source,
        apps=tuple(given["apps"].split()) if given.get("apps") else template.apps,
        otp=gate(described, kind),
        pin=_pin(board, described, given.get("pin", "").encode(), template.pin),
    )
    provision.check_device(fleet, store, order)
    record = BoardRecord.load(fleet, order.device)
    exists = store.find(order.device) is not None
    done = exists and record is not None and record.live and not template.again
    if not exists or template.again:  # the vault of a board that was begun has its secret already
        enrol.bundle_part(store, order.device, order.otp)  # raises not-enrolled
    if exists and record is None and not template.again:
        raise HostError("device-exists", f"device {order.device} was provisioned already")
    return Entry(number, order, done)


def _pin(board: str, described: BoardFile, given: bytes, plain: bytes) -> bytes:
    """Return the PIN of a board's root key, b"" where it has none. No error quotes it.

    given: of the line. plain: for lines without one
    """
    if not described.needs_pin:
        if given:
            raise HostError("bad-list", f"the root key of {board} has no PIN")
        return b""
    pin = given or plain
    if not 0 < len(pin) <= MAX_PIN or b"\n" in pin or b"\r" in pin:
        raise HostError(
            "bad-list",
            f"the root key of {board} wants a PIN of 1 to {MAX_PIN} bytes",
        )
    return pin


def choose(entries: list[Entry], later: list[Entry], chip: str, fleet: Fleet) -> Entry | None:
    """Return the entry that a board is for: the one that it was begun as, else the next one.

    later: entries whose turn has not come; only a board that was begun as one is for it.
    None where nothing is left, or the board is a live device of another entry.
    """
    fresh = []
    for entry in entries + later:
        record = BoardRecord.load(fleet, entry.order.device)
        if record is not None and record.is_chip(chip):
            return entry
        if record is None or entry.order.again:
            fresh.append(entry)
    return fresh[0] if fresh and fresh[0] in entries else None


class Finder:
    """Find each board that is plugged in, once, until no further board comes. On any thread.

    wanted: a port's path, or ports.AUTO for every USB serial port. wait_s: seconds to wait for the
    next board. wait(): called when that begins. A port that was away for _GONE_S has a new board,
    whatever its number: many USB chips have the same one. So a board that failed is found again
    when it was unplugged for as long.
    """

    def __init__(self, wanted: str, wait_s: float, wait: Callable[[], None]) -> None:
        self._wanted = wanted
        self._wait_s = wait_s
        self._wait = wait
        self._turn = threading.Lock()
        self._seen: dict[ports.Port, float] = {}  # when it was there last
        self._looked = time.monotonic()
        self._busy: set[str] = set()

    def next(self, enough: Callable[[], bool] = lambda: False) -> str | None:
        """Return the port of the next board; it is busy until done(). None: no further one.

        enough(): returns whether no board is needed any more, which ends the waiting.
        """
        with self._turn:
            if time.monotonic() > self._looked + _POLL_S * 10:
                # Nothing looked meanwhile: no port counts as away for that time.
                self._seen = dict.fromkeys(self._seen, time.monotonic())
            limit = time.monotonic() + self._wait_s
            waiting = False
            while not enough():
                new = self._look()
                if new is not None:
                    self._busy.add(new)
                    return new
                if time.monotonic() >= limit:
                    break
                if not waiting:
                    waiting = True
                    self._wait()
                time.sleep(_POLL_S)
            return None

    def done(self, port: str) -> None:
        """Note that the work on a board has ended: its port may get the next board."""
        self._busy.discard(port)

    def _look(self) -> str | None:
        """Return the first port with a board that is not seen yet."""
        present = ports.present(self._wanted)
        now = self._looked = time.monotonic()
        there = set(present) | {port for port in self._seen if port.device in self._busy}
        self._seen |= {port: now for port in there if port in self._seen}
        # A reset takes a port away for a moment.
        self._seen = {port: last for port, last in self._seen.items() if last > now - _GONE_S}
        for port in present:
            if port not in self._seen and port.device not in self._busy:
                self._seen[port] = now
                return port.device
        return None


class Log:
    """What became of each board, a JSON object a line, added to a file at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()

    def add(self, **fields: object) -> None:
        """Add a line, with the time. No field is a secret."""
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | fields
        with self._turn, self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
