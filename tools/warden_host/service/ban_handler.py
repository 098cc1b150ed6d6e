"""Answer requests of the control sockets about bans and lists; run the watch for them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from warden_host.bans import changes
from warden_host.bans import settings as ban_settings
from warden_host.bans.settings import BanSettings
from warden_host.broker.backend import Broker
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service.ban_watch import BanWatch
from warden_host.service.control import Caller, Handler, Line
from warden_host.service.operators import user_name
from warden_host.service.request_fields import ROWS, page, read_number, read_text
from warden_host.store.bans import LISTS
from warden_host.store.store import Store

_PAGE = 200  # bans a line
_MOST_NAMED = 1000


@contextmanager
def watching(
    fleet: Fleet,
    broker: Broker,
    is_question: Callable[[str], bool],
    announce: Callable[[FleetEvent], None],
    operations: dict[str, Handler],
) -> Iterator[BanWatch]:
    """Watch the broker's log, and answer requests, while the context lasts.

    is_question: as for BanWatch. operations: gets those of this module. Raises config-malformed.
    """
    settings = ban_settings.load(fleet)
    with BanWatch(fleet, settings, is_question, announce) as watch:
        broker.is_known_address = watch.known.__contains__
        broker.on_attempt = watch.attempt
        operations.update(BanHandler(fleet, settings, watch).operations)
        try:
            yield watch
        finally:
            broker.on_attempt = None


class BanHandler:
    """The operations; each is on its caller's thread."""

    def __init__(self, fleet: Fleet, settings: BanSettings, watch: BanWatch) -> None:
        self._fleet = fleet
        self._settings = settings
        self._watch = watch
        self.operations: dict[str, Handler] = {
            "bans": self._list,
            "ban-page": self._page,
            "ban": self._ban,
            "lift": self._lift,
            "address-list": self._change_list,
            "activate-list": self._activate,
            "bans-apply": self._apply,
        }

    def _list(self, _: Line, caller: Caller) -> None:
        with Store(self._fleet.database) as store:
            bans = self._watch.enforcement.bans(store, time.time())
            pages: dict[str, list[Any]] = {"bans": [ban._asdict() for ban in bans]}
            pages |= {name: store.list_entries(name) for name in LISTS}
            active = store.active_list() or "none"
        for name, rows in pages.items():
            for start in range(0, len(rows), _PAGE):
                caller.send({name: rows[start : start + _PAGE]})
        status = self._watch.enforcement.status.record()
        caller.finish({"ok": True, "active": active, **status})

    def _page(self, line: Line, caller: Caller) -> None:
        """Answer with a page of the bans, the newest first, and whether they are enforced."""
        start = read_number(line) * ROWS
        with Store(self._fleet.database) as store:
            now = time.time()
            rows = [ban._asdict() for ban in store.newest_bans(now, start, ROWS)]
            found = page(line, rows, sum(store.ban_counts(now).values()))
            found["active"] = store.active_list() or "none"
        caller.finish(found | self._watch.enforcement.status.record())

    def _ban(self, line: Line, caller: Caller) -> None:
        source = f"user {caller.who or user_name(caller.uid)}"
        with Store(self._fleet.database) as store:
            made = changes.add(store, _texts(line, "networks"), source, read_text(line, "why", ""))
        self._finish(caller, {"networks": [ban.network for ban in made]})

    def _lift(self, line: Line, caller: Caller) -> None:
        with Store(self._fleet.database) as store:
            pending = list(self._watch.enforcement.pending)
            lifted = changes.lift(store, _texts(line, "networks"), pending)
        self._watch.lifted(lifted)
        self._finish(caller, {"networks": lifted})

    def _change_list(self, line: Line, caller: Caller) -> None:
        name = read_text(line, "list")
        with Store(self._fleet.database) as store:
            changes.change_list(store, name, _texts(line, "networks"), _texts(line, "removed"))
        self._finish(caller, {"list": name})

    def _activate(self, line: Line, caller: Caller) -> None:
        name = read_text(line, "list", "")
        with Store(self._fleet.database) as store:
            changes.activate(store, self._settings, name)
        self._finish(caller, {"active": name or "none"})

    def _apply(self, line: Line, caller: Caller) -> None:
        """Follow what the owner's tool changed in fleet.db."""
        self._watch.lifted(None if line.get("all") is True else _texts(line, "lifted"))
        self._finish(caller, {})

    def _finish(self, caller: Caller, result: dict[str, Any]) -> None:
        caller.finish({"ok": True, **result, **self._watch.reload().record()})


def _texts(line: Line, key: str) -> list[str]:
    """Return a list of texts; raises control-malformed."""
    value = line.get(key, [])
    if (
        not isinstance(value, list)
        or len(value) > _MOST_NAMED
        or not all(isinstance(one, str) and len(one) <= 64 for one in value)
    ):
        raise HostError("control-malformed", f"{key} is no list of at most {_MOST_NAMED} texts")
    return value
