"""Telemetry that arrives: join the outbox with the sessions, the vault and the tasks of an agent.

agent/build.py loads this module where the policy has an outbox. An application acknowledges an
event by a sealed `ack` with its number once it has stored it (docs/protocol.md). Until then the
event is sealed anew and sent again, in each new session and after a pause without acknowledgement.
In plain mode, which has no such message, the broker's PUBACK counts.
"""

import asyncio

from micropython import const

from ..errors import PeerError, StoreError, WardenError, ensure
from ..session.outbox import Outbox
from ..wire import cbor
from ..wire.names import JSON

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..session.session import Session
    from ..vault.records import App
    from . import interface

_WINDOW = const(16)  # events of one application that are sent and not acknowledged
_BLOCK = const(4096)  # event numbers reserved by one write to the flash
_SEALED = const(64)  # bytes that sealing adds to an event's body, at most
_MOST_PAUSE_MS = const(60000)
_COUNTED = const(2000)  # as in session/session.py
_DAY_MS = const(86400000)
# Flash wear: an outbox that empties sooner is not saved, and none is more often than each 5 min.
_SAVE_AFTER_MS = const(10000)
_SAVE_GAP_MS = const(300000)
_PIECE = const(4096)  # bytes of a vault record
_PIECES = const(5)


class _Way:
    """What was sent to one application in its present session."""

    def __init__(self, appid: str, bit: int, pause_ms: int) -> None:
        self.appid = appid
        self.bit = bit
        self.sid = b""
        self.sent = 0  # the highest number sent in this session
        self.due_ms: "int | None" = None  # when all of it is sent again
        self.pause_ms = self.first_pause_ms = pause_ms

    def start_session(self, sid: bytes) -> None:
        """Start a session: all that is not acknowledged is sent again."""
        self.sid, self.sent, self.due_ms, self.pause_ms = sid, 0, None, self.first_pause_ms


class Delivery:
    """The outbox of an agent. apps: of the vault. terms: of the policy (policy/connection.py)."""

    def __init__(
        self, agent: "interface.Agent", apps: "list[App]", terms: "dict[str, Any]"
    ) -> None:
        self._agent = agent
        policy, self._terms = agent.policy, terms
        self._outbox = self._make(terms, policy.max_message)
        # Of the policy that has proved itself: behind a larger limit that does not, an event that
        # came meanwhile would fit into no packet.
        self._limit = policy.max_message
        # The bits of a saved outbox depend on this order.
        self._ways = [
            _Way(appid, 1 << i, policy.stall_ms)
            for i, appid in enumerate(sorted([app.appid for app in apps]))
        ]
        self._choose_usual(apps)
        self._numbers = agent.vault.counter("outbox")  # reserved up to here
        self._number = self._numbers
        self._fates: "dict[int, str]" = {}  # of events whose publish() waits
        self._ended = asyncio.Event()
        self.changed = asyncio.Event()  # a message came, or an event
        self._keeps = terms["outbox_keep"] == "reboot"
        self._stored = False  # the vault has events
        self._done = False
        self._unsaved_ms: "int | None" = None  # since when an event is not saved
        self._saved_ms = -_SAVE_GAP_MS
        if self._keeps:
            self._load()

    def _make(self, terms: "dict[str, Any]", largest: int) -> Outbox:
        drop_oldest = terms["outbox_drop"] == "oldest"
        return Outbox(terms["outbox"], largest, drop_oldest, self._on_end)

    def use_terms(self, terms: "dict[str, Any]", largest: int) -> "dict[str, bytes | None]":
        """Go on by other terms; what waits stays as far as it fits, the newest first.

        largest: bytes of a packet, not below those of before. Return what the vault is to change
        with the terms. MemoryError: nothing has changed.
        """
        if terms == self._terms and largest == self._limit:
            return {}
        made = self._make(terms, largest)
        made.load(bytes(self._outbox.saved()), self._number)
        self._outbox, self._limit, self._terms = made, largest, terms
        self._keeps = terms["outbox_keep"] == "reboot"
        if made.count:
            self._unsaved_ms = self._agent.now_ms()
        return {} if self._keeps else self._unstore()

    def end(self) -> "dict[str, bytes | None]":
        """Drop what waits, and let run() return: the policy has no outbox any more.

        Return what the vault is to change.
        """
        for entry in self._outbox.entries():
            self._on_end(entry.number, False)
        self._done = True
        self.changed.set()
        return self._unstore()

    def _unstore(self) -> "dict[str, bytes | None]":
        self._stored = False
        return {"outbox%d" % i: None for i in range(_PIECES)}

    def replace_apps(self, apps: "list[App]") -> None:
        """Deliver to these applications from now on; what only others lack, goes.

        The vault holds no saved events: the commit that changed the applications removed them.
        """
        before = {way.appid: way for way in self._ways}
        pairs = []
        self._ways = []
        for i, appid in enumerate(sorted([app.appid for app in apps])):
            way = before.get(appid)
            if way is None:
                way = _Way(appid, 1 << i, self._agent.policy.stall_ms)
            else:
                pairs.append((way.bit, 1 << i))
                way.bit = 1 << i
            self._ways.append(way)
        self._choose_usual(apps)
        self._outbox.replace_bits(pairs)
        self._stored = False
        if self._outbox.count:
            self._unsaved_ms = self._agent.now_ms()
            self.save()
        self.changed.set()

    def _choose_usual(self, apps: "list[App]") -> None:
        """Set the applications that get an event without `to`."""
        self._usual = 0
        for app in apps:
            if not app.authority or len(apps) == 1:
                self._usual |= self._bit(app.appid)

    def _bit(self, appid: str) -> int:
        for way in self._ways:
            if way.appid == appid:
                return way.bit
        return 0

    # -- what the application sees ------------------------------------------------------------

    async def publish(
        self, event: str, body: "dict[str, Any]", to: "str | None", wait: bool
    ) -> str:
        """Take an event; return what became of it: "sent", "queued", "dropped" or "delivered".

        wait: until it is delivered or dropped. UsageError bad-argument; StoreError counter-limit.
        """
        agent = self._agent
        lacking = self._usual if to is None else self._bit(to)
        ensure(lacking, "bad-argument", "no such application")
        data = bytearray()
        cbor.write(data, body, cbor.DEEPEST - 1)
        if len(data) > _COUNTED:
            from ..wire.cbor_reader import check_items

            check_items(memoryview(data))
        if agent.plain is None:
            size = len(agent.names.sealed(event)[0]) + _SEALED + len(data)
        else:
            text = agent.plain.event(event, {"body": body, "n": (1 << 32) - 1})
            size = len(agent.names.event(event, JSON)) + 2 + len(text)
        ensure(size + 5 <= self._limit, "bad-argument", "above the policy's limit")
        number = self._next_number()
        if wait:
            self._fates[number] = ""
        try:
            served = 0
            for way in self._ways:
                if self._session(way) is not None:
                    served |= way.bit
            if not self._outbox.add(number, lacking, event.encode(), data, served):
                self._on_end(number, False)
                return "dropped"
            if self._unsaved_ms is None:
                self._unsaved_ms = agent.now_ms()
            fate = "queued"
            try:
                self._send(agent.now_ms())
                if any([way.sent >= number for way in self._ways if way.bit & lacking]):
                    fate = "sent"
                if agent.client.owes:
                    await agent.client.flush()
            except PeerError as error:  # the connection broke, and the agent makes another
                agent.log(error.code, error.text)
            self.changed.set()
            while wait and not self._fates[number]:
                self._ended.clear()
                await self._ended.wait()
            return self._fates.get(number) or fate
        finally:
            self._fates.pop(number, None)

    def _next_number(self) -> int:
        if self._number >= self._numbers:
            # Kept before use: no two events ever have one number, whatever the flash kept of them.
            self._numbers = self._agent.vault.advance("outbox", self._numbers + _BLOCK)
        self._number += 1
        return self._number

    def _on_end(self, number: int, delivered: bool) -> None:
        if number in self._fates:
            self._fates[number] = "delivered" if delivered else "dropped"
            self._ended.set()
        if not delivered:
            self._agent.report("outbox-full", "outbox")
        if not self._outbox.count:
            self._unsaved_ms = None

    # -- sending ------------------------------------------------------------------------------

    async def run(self) -> bool:
        """Send what waits when something changed, and save it by the policy; end() ends it."""
        agent = self._agent
        while not self._done:
            self.changed.clear()
            now, due = agent.now_ms(), None
            try:
                if agent.plain is not None:
                    await self._send_plain()
                else:
                    due = self._send(now)
                    if agent.client.owes:
                        await agent.client.flush()
                        continue
            except PeerError as error:  # the connection broke, and the agent makes another
                agent.log(error.code, error.text)
            save = self._save_due()
            if save is not None and now >= save:
                self.save()
                save = self._save_due()
            dues = [one for one in (due, save) if one is not None]
            wait = max(1, min(dues) - now) if dues else _DAY_MS
            try:
                await asyncio.wait_for_ms(self.changed.wait(), wait)
            except asyncio.TimeoutError:
                pass
        return True

    def _session(self, way: _Way) -> "Session | None":
        for session in self._agent.sessions:
            if session.up and session.appid == way.appid:
                return session
        return None

    def _is_open(self) -> bool:
        """Return whether the gate, if there is one, lets telemetry out."""
        gate = self._agent.gate
        return self._agent.client.connected and (
            gate is None or gate.early or gate.opened.is_set()
        )

    def _send(self, now_ms: int) -> "int | None":
        """Send what each application lacks, as far as the connection takes it at once.

        Return when something is to be sent again, or None. Nothing waits between sealing and
        posting: counters reach the broker in their order.
        """
        agent, due = self._agent, None
        if not self._is_open():
            return None
        for way in self._ways:
            session = self._session(way)
            if session is None:
                continue
            if session.sid != way.sid:
                way.start_session(session.sid)
            elif way.due_ms is not None and now_ms >= way.due_ms:
                # Lost behind the broker: all of it again, in its order, and ever more slowly.
                way.sent, way.due_ms = 0, None
                way.pause_ms = min(2 * way.pause_ms, _MOST_PAUSE_MS)
            flying = previous = 0
            for entry in self._outbox.entries():
                if not entry.lacking & way.bit:
                    continue
                if entry.number > way.sent:
                    if flying >= _WINDOW or agent.client.owes:
                        break
                    event = str(entry.name, "utf-8")
                    sealed = session.seal_view(event, entry.number, entry.body, previous)
                    agent.post(agent.names.sealed(event)[0], sealed)
                    way.sent = entry.number
                    way.due_ms = now_ms + way.pause_ms
                flying += 1
                previous = entry.number
            if not flying:
                way.due_ms = None
            elif way.due_ms is not None:
                due = way.due_ms if due is None else min(due, way.due_ms)
        return due

    def on_ack(self, appid: str, number: int) -> None:
        """Note that an application has all events up to this number; 0 for none."""
        for way in self._ways:
            if way.appid == appid and self._outbox.acknowledge(way.bit, number):
                way.pause_ms = way.first_pause_ms
                way.due_ms = self._agent.now_ms() + way.pause_ms
        self.changed.set()

    async def _send_plain(self) -> None:
        """Send what waits with QoS 1, one event after the other: the broker's PUBACK counts."""
        agent = self._agent
        plain = agent.plain
        while plain is not None and self._outbox.count and plain.ready and self._is_open():
            entry = next(self._outbox.entries())
            number, event = entry.number, str(entry.name, "utf-8")
            message = plain.event(event, {"body": cbor.decode(entry.body), "n": number})
            await agent.post(agent.names.event(event, JSON).encode(), message, 1)
            for way in self._ways:
                self._outbox.acknowledge(way.bit, number)

    # -- saved over a restart -----------------------------------------------------------------

    def _load(self) -> None:
        vault, data = self._agent.vault, bytearray()
        for i in range(_PIECES):
            piece = vault.get("outbox%d" % i)
            if piece is not None:
                data.extend(piece)
        self._stored = bool(data)
        try:
            self._outbox.load(data, self._numbers)
        except StoreError as error:
            self._agent.log(error.code, error.text)
            self._agent.report(error.code, "outbox")

    def suspend(self) -> "list[Any]":
        """Return what resume() takes: the numbers in use, and what waits and is not saved."""
        saved = self._keeps and self._unsaved_ms is None
        return [self._number, self._numbers, b"" if saved else bytes(self._outbox.saved())]

    def resume(self, state: "list[Any]") -> None:
        """Go on after deep sleep, without a new block of numbers."""
        self._number, self._numbers, data = state
        if data:  # newer than what the vault has
            self._outbox.load(data, self._number)
            self._unsaved_ms = self._agent.now_ms()

    def _save_due(self) -> "int | None":
        """Return when save() is due, or None."""
        if not self._keeps:
            return None
        if self._unsaved_ms is not None:
            return max(self._unsaved_ms + _SAVE_AFTER_MS, self._saved_ms + _SAVE_GAP_MS)
        # Acknowledged events that stay saved would be sent again at the next start.
        return self._saved_ms + _SAVE_GAP_MS if self._stored and not self._outbox.count else None

    def save_at_end(self) -> None:
        """Keep what waits, if the vault is still open: the board is about to stop or restart."""
        try:
            self.save()
        except WardenError as error:  # a wipe or a failing flash is why it ends
            self._agent.log(error.code, error.text)

    def save(self) -> None:
        """Keep what waits in the vault, by one commit, where the policy says so and it is new."""
        # Of what is saved some may be acknowledged since: that is not worth a write.
        needless = not self._stored or self._outbox.count
        if not self._keeps or (self._unsaved_ms is None and needless):
            return
        data = self._outbox.saved()
        changes: "dict[str, bytes | None]" = {}
        names = self._agent.vault.names()
        for i in range(_PIECES):
            piece, name = data[i * _PIECE : (i + 1) * _PIECE], "outbox%d" % i
            if len(piece):
                changes[name] = bytes(piece)
            elif name in names:
                changes[name] = None
        self._saved_ms = self._agent.now_ms()
        try:
            if changes:
                self._agent.vault.commit(changes)
        except StoreError as error:
            if error.code != "vault-limit":
                raise
            # Nothing has changed: the next save() tries again.
            self._agent.log(error.code, error.text)
            self._agent.report(error.code, "outbox")
            return
        self._stored, self._unsaved_ms = bool(len(data)), None
