"""The devices of an application: those of its file, and what the authority's lists changed since.

A list is taken only where its number is above the last one. One that continues another list than
ours is left alone: something between was lost, and all devices are asked for. What is kept of the
lists outranks the file, until an export has made another secret.
"""

import json
import random
from dataclasses import replace
from typing import Any

from warden_client import credentials, names
from warden_client.credentials import Credentials, DeviceEntry
from warden_client.errors import HostError
from warden_client.memory import List, Memory
from warden_client.protocol import key_lists
from warden_client.protocol.key_lists import Page, Scopes

MAX_PAGES = 65536
MAX_BYTES = credentials.MAX_FILE  # of all pages of a list
_FIRST_S, _MOST_S = 2.0, 60.0  # until an ask is repeated
_STEADY_S = 600.0  # between two asks while nothing is missing


class _Pages:
    """A list whose pages arrive."""

    def __init__(self, list_id: bytes, number: int) -> None:
        self.id = list_id
        self.number = number
        self.next = 0
        self.bytes = 0
        self.scopes: Scopes | None = None
        self.devices: list[dict[str, Any] | str] = []


class Updates:
    """Reads lists and says when to ask for one. memory: keeps what it reads."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._file: Credentials | None = None
        self._entries: dict[str, DeviceEntry] = {}
        self._scopes: Scopes | None = None
        self._pages: _Pages | None = None
        self._due = 0.0  # of the next ask, steady seconds
        self._wait = _FIRST_S
        self.number = 0  # of the last list

    def load(self, file: Credentials) -> Credentials:
        """Return what holds of a file that was read. Raises filesystem, key-damaged."""
        kept = self._memory.known_list(_kid(file)) if file.list_secret else None
        self._file, self._pages, self._scopes = file, None, None
        self.number, self._entries = file.list_number, dict(file.devices)
        self.ask_soon(0.0)
        if kept is not None and kept.number >= file.list_number:
            self.number = kept.number
            self._entries = {} if kept.whole else self._entries
            self._scopes = _scopes(json.loads(kept.scopes)) if kept.scopes else None
            for device, text in kept.entries.items():
                self._entries.pop(device, None)
                if text:
                    self._entries[device] = credentials.device_entry(json.loads(text))
        return self.current()

    def current(self) -> Credentials:
        """Return the file's content with the devices, types and commands of the last list."""
        assert self._file is not None  # noqa: S101  load() was first
        made = replace(self._file, devices=dict(self._entries))
        if self._scopes is None:
            return made
        types = self._scopes.types
        up = tuple(f"{names.topic_base(type_, '+')}/evt/#" for type_ in types)
        return replace(made, types=types, commands=self._scopes.commands, subscribe=up)

    def ask_soon(self, now: float) -> None:
        """Ask at the next turn: there is a new connection. now: steady seconds."""
        self._due, self._wait, self._pages = now, _FIRST_S, None

    def due_ask(self, now: float) -> bytes | None:
        """Return an ask where one is due, and wait longer for the next one."""
        file = self._file
        if file is None or not file.list_secret or now < self._due:
            return None
        self._due = now + self._wait * random.uniform(0.5, 1)  # noqa: S311  no secret
        self._wait = min(2 * self._wait, _MOST_S)
        return key_lists.seal_ask(file.appid, file.list_secret, self.number)

    def receive(self, data: bytes, now: float) -> bool:
        """Read a page, which is untrusted; return whether devices or scopes are others now.

        Raises: as key_lists.open_page(); replayed; gap: a list or a page before it is missing, and
        is asked for; cbor-limit; key-damaged, bad-name: an entry; filesystem.
        """
        file = self._file
        if file is None or not file.list_secret:
            return False
        list_id, page = key_lists.open_page(file.appid, file.list_secret, data)
        if page.number <= self.number:
            raise HostError("replayed", f"list {page.number}, and {self.number} is known")
        self._due = max(self._due, now + _FIRST_S)  # it is coming
        if page.previous is not None:
            if page.previous != self.number:
                self._due = min(self._due, now + _FIRST_S)
                raise HostError("gap", f"the list before list {page.number} is missing")
            return self._take(page.number, page.scopes, page.devices, now, whole=False)
        pages = self._collect(list_id, page, len(data))
        if not page.last:
            return False
        self._pages = None
        return self._take(page.number, pages.scopes, pages.devices, now, whole=True)

    def _collect(self, list_id: bytes, page: Page, size: int) -> _Pages:
        """Add a page to those of its list. Raises gap, cbor-limit, replayed."""
        pages = self._pages
        if page.position == 0 and (pages is None or page.number > pages.number):
            pages = self._pages = _Pages(list_id, page.number)
        if pages is None or (pages.id, pages.number) != (list_id, page.number):
            raise HostError("gap", f"list {page.number} begins with page {page.position}")
        if page.position < pages.next:
            raise HostError("replayed", f"page {page.position} came before")
        if page.position > pages.next:
            self._pages = None
            raise HostError("gap", f"a page before page {page.position} is missing")
        pages.bytes += size
        if pages.bytes > MAX_BYTES or page.position >= MAX_PAGES:
            self._pages = None
            raise HostError("cbor-limit", "a list of more pages than an application takes")
        pages.next += 1
        pages.scopes = page.scopes or pages.scopes
        pages.devices += page.devices
        return pages

    def _take(
        self,
        number: int,
        scopes: Scopes | None,
        devices: list[dict[str, Any] | str],
        now: float,
        whole: bool,
    ) -> bool:
        """Check all of a list, keep it and use it; return whether it changes anything."""
        assert self._file is not None  # noqa: S101  receive() looked
        for type_ in scopes.types if scopes else ():
            names.check_id(type_, "device type")
        texts, entries = {}, {} if whole else dict(self._entries)
        for one in devices:
            if isinstance(one, str):
                entries.pop(names.check_id(one, "device ID"), None)
                texts[one] = ""
            else:
                raw = _in_json(one)
                entry = credentials.device_entry(raw)
                entries[entry.device] = entry
                texts[entry.device] = json.dumps(raw)
        scopes = scopes or self._scopes
        kept = List(number, json.dumps(scopes) if scopes else "", whole, texts)
        self._memory.keep_list(_kid(self._file), kept)
        before = (self._entries, self._scopes)
        self._entries, self._scopes, self.number = entries, scopes, number
        self._due, self._wait = now + _STEADY_S, _FIRST_S
        return before != (entries, scopes)


def _kid(file: Credentials) -> bytes:
    return key_lists.key_id(file.appid, file.list_secret)


def _scopes(value: list[list[str]]) -> Scopes:
    return Scopes(tuple(value[0]), tuple(value[1]))


def _in_json(value: Any) -> Any:
    """Return the value with hex digits for bytes. Raises key-damaged for what JSON can't hold."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise HostError("key-damaged", "an entry has a key that is no text")
        return {key: _in_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_json(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
