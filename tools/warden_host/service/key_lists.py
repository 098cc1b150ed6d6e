"""Give exported applications their devices' keys: at once where one changes, and all when asked.

fleet.db notes what each application has yet to learn (store/exports.py), whoever changed it. A
look at it a few times a second seals the entries that changed as lists that continue the one
before. An application that was away, or lost a list, asks; it gets all devices in pages, a few at
a time, so that the engine stays free. Nothing is retained at the broker: it would keep keys, and
an application has to say what it has anyway.
"""

import secrets
from collections.abc import Callable
from typing import Any

from warden_client.protocol import key_lists, strictcbor
from warden_client.protocol.key_lists import LIST_ID, PREFIX, Page, Scopes

from warden_host.devices import app_export
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Job, Wait
from warden_host.errors import HostError
from warden_host.names import TOPIC_LIMIT

Publish = Callable[[str, bytes], None]  # topic, payload
Sink = Callable[[str, bytes, memoryview, bool], None]
_LOOK_S = 0.2
_DEVICES = 150  # in one look, of all applications: some 30 ms; a page more at most
_PAUSE_S = 5.0  # between two answers to one application
_OVERHEAD = 192  # bytes of a packet that are no entries: heads, topic, COSE, number
_OWN_ITEMS = 64  # of a value, besides the entries
_ASKS = 64  # applications whose asks wait


class Asks:
    """The last ask of each application, unverified. Its link's thread puts it here."""

    def __init__(self) -> None:
        self._waiting: dict[str, bytes] = {}

    def before(self, sink: Sink) -> Sink:
        """Return a sink of messages that keeps asks, and passes on all others."""

        def receive(appid: str, topic: bytes, payload: memoryview, retain: bool) -> None:
            if not topic.startswith(PREFIX.encode()) or len(topic) > TOPIC_LIMIT:
                return sink(appid, topic, payload, retain)
            asker = topic.split(b"/")[2].decode(errors="replace")
            room = asker in self._waiting or len(self._waiting) < _ASKS
            if room and not retain and len(payload) <= key_lists.MAX_ASK:
                self._waiting[asker] = bytes(payload)

        return receive

    def waiting(self) -> list[str]:
        return list(self._waiting)

    def pop(self, appid: str) -> bytes:
        return self._waiting.pop(appid, b"")


class _Whole:
    """A list of all devices that is on its way. names: those that are left, last one first."""

    def __init__(self, names: list[str], number: int, scopes: Scopes | None) -> None:
        self.names = names[::-1]
        self.number = number
        self.scopes = scopes
        self.id = secrets.token_bytes(LIST_ID)
        self.index = 0
        self.held: dict[str, Any] | None = None  # read, and the page before had no room for it


class KeyLists:
    """Send the lists. Runs on the thread that has the engine, as a job without an end."""

    def __init__(self, engine: Engine, asks: Asks, publish: Publish) -> None:
        self._engine = engine
        self._store = engine.store
        self._asks = asks
        self._publish = publish
        self._whole: dict[str, _Whole] = {}
        self._left = 0  # devices that may be sent in this look
        self._due: dict[str, float] = {}  # application → when it may be answered again, steady
        self._paused: dict[str, float] = {}  # the same of its changes, after an error
        self._start(None)

    def _start(self, result: "dict[str, Any] | HostError | None") -> None:
        """Start the job; again after an error, unless the authority stops."""
        if isinstance(result, HostError):
            if result.code == "not-serving":
                return
            self._notice("", result)
        self._engine.start(self._look_for_ever(), self._start)

    def _look_for_ever(self) -> Job:
        while True:
            yield Wait(None, self._engine.clock().steady + _LOOK_S)
            self._look()

    def _look(self) -> None:
        now = self._engine.clock().steady
        for appid in self._asks.waiting():
            if now >= self._due.get(appid, 0.0):
                try:
                    self._answer(appid)
                except HostError as error:
                    self._notice(appid, error)
        self._left = _DEVICES
        for appid in self._store.apps_with_changes():  # first: a revocation may be among them
            while self._left > 0 and self._may_send_changes(appid, now):
                self._attempt(appid, self._send_changes)
        for appid in list(self._whole):
            while self._left > 0 and appid in self._whole:
                self._attempt(appid, self._send_page)

    def _may_send_changes(self, appid: str, now: float) -> bool:
        free = appid not in self._whole and now >= self._paused.get(appid, 0.0)
        return free and bool(self._store.key_changes(appid, 1))

    def _attempt(self, appid: str, step: Callable[[str], None]) -> None:
        """Do a step; an error costs this application its list, which it asks for again."""
        try:
            step(appid)
        except HostError as error:
            self._whole.pop(appid, None)
            self._left -= 1
            self._paused[appid] = self._engine.clock().steady + _PAUSE_S
            self._notice(appid, error)

    def _notice(self, appid: str, error: HostError) -> None:
        text = f"the keys of its devices were not sent: {error.text}"
        self._engine.notify(FleetEvent("notice", app=appid, code=error.code, text=text))

    def _answer(self, appid: str) -> None:
        data = self._asks.pop(appid)
        known = self._store.list_secret(appid)
        if known is None or appid in self._whole:
            return  # no party of its own, or a list is on its way
        number = key_lists.open_ask(appid, known.secret, data)
        self._due[appid] = self._engine.clock().steady + _PAUSE_S
        if number == known.number:
            if not self._store.key_changes(appid, 1):  # else they are the answer
                self._send_changes(appid)
            return
        with self._store.transaction():
            following = self._next_number(appid)
            self._store.drop_key_changes(appid)
            devices = self._store.devices_of(appid)
            scopes = self._scopes(appid)
        self._whole[appid] = _Whole(devices, following, scopes)

    def _send_page(self, appid: str) -> None:
        """Send the next page of all devices."""
        whole = self._whole[appid]
        room = _Room(self._engine.packet_limit, whole.scopes)
        while whole.names or whole.held is not None:
            entry = whole.held or self._entry(appid, whole.names.pop())
            whole.held = None
            if entry is not None and not room.add(entry):
                whole.held = entry
                break
        last = not whole.names and whole.held is None
        page = Page(whole.number, None, whole.index, last, whole.scopes, room.devices)
        whole.scopes, whole.index = None, whole.index + 1
        if last:
            del self._whole[appid]
        known = self._store.list_secret(appid)
        if known is not None:
            self._seal(appid, known.secret, whole.id, page)

    def _send_changes(self, appid: str) -> None:
        """Send what changed, as far as it fits into a page; nothing, that the list is the last."""
        store = self._store
        with store.transaction():
            known = store.list_secret(appid)
            if known is None:
                return
            changed = store.key_changes(appid, 100)
            scopes = None
            if "" in changed:
                scopes = self._scopes(appid)
                store.drop_key_change(appid, "")
            room = _Room(self._engine.packet_limit, scopes)
            for device in filter(None, changed):
                if not room.add(self._entry(appid, device) or device):
                    break
                store.drop_key_change(appid, device)
            number = self._next_number(appid)
        page = Page(number, known.number, 0, True, scopes, room.devices)
        self._seal(appid, known.secret, secrets.token_bytes(LIST_ID), page)

    def _scopes(self, appid: str) -> Scopes | None:
        """Return the scopes; None, and a notice, where they take more than a page."""
        app = self._store.app(appid)
        scopes = Scopes(app.types, app.commands)
        try:
            _Room(self._engine.packet_limit, scopes)
        except HostError as error:
            self._notice(appid, error)
            return None
        return scopes

    def _next_number(self, appid: str) -> int:
        return self._store.next_list(appid, self._engine.clock().unix)

    def _entry(self, appid: str, device: str) -> dict[str, Any] | None:
        try:
            return app_export.entry(self._store, self._store.device(device), appid)
        except HostError as error:
            if error.code != "device-unknown":
                raise
            return None

    def _seal(self, appid: str, secret: bytes, list_id: bytes, page: Page) -> None:
        self._left -= 1 + len(page.devices)
        data = key_lists.seal_page(appid, secret, list_id, page)
        self._publish(key_lists.list_topic(appid), data)


class _Room:
    """The devices of one page, within the bytes of a packet and the items of a value."""

    def __init__(self, packet: int, scopes: Scopes | None) -> None:
        """packet: bytes. Raises mqtt-too-large where the scopes alone take more."""
        self.devices: list[dict[str, Any] | str] = []
        self._bytes = min(packet, strictcbor.MAX_BYTES) - _OVERHEAD
        self._items = strictcbor.LIMITS.items - _OWN_ITEMS
        self._empty = True
        if scopes is not None:
            self._spend([list(scopes.types), list(scopes.commands)])

    def add(self, entry: dict[str, Any] | str) -> bool:
        """Add a device; False where the page has no room for it. Raises as _spend()."""
        if not self._spend(entry):
            return False
        self.devices.append(entry)
        return True

    def _spend(self, value: Any) -> bool:
        """Use room of the page. Raises mqtt-too-large where an empty one has not enough."""
        data = strictcbor.encode(value)
        items = strictcbor.scan(data)
        if len(data) > self._bytes or items > self._items:
            if self._empty:
                text = "an entry takes more than a packet of the broker"
                raise HostError("mqtt-too-large", text, "`warden app export` again gives it")
            return False
        self._bytes -= len(data)
        self._items -= items
        self._empty = False
        return True
