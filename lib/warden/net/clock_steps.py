"""A time far ahead of the mark: it becomes the mark once a second welcome agrees, a day later.

net/clock.py loads this where a welcome is more than a day ahead of the mark. A device that was
off for long has the right time at once, for this boot. The mark, which holds for ever, follows
when the authority says a day or more later that time went on from there: so a host whose clock is
wrong for an hour moves no mark by more than a day.
"""

from micropython import const

from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault

_FORMAT = const(1)
_AGREES_S = const(86400)  # after the first time, at least
_LONGEST_S = const(90 * 86400)  # at most
_MOST_STEPS = const(4)


class Steps:
    """The record `clock` (vault/records.py), and what a time far ahead of the mark changes of it.

    mark: the present one, unix seconds. confirmed: whether an earlier welcome was as far ahead, so
    that the mark follows.
    """

    def __init__(self, vault: "Vault", unix_time: int, mark: int) -> None:
        self._vault = vault
        data = vault.get("clock")
        fields: "Any" = [_FORMAT, 0, [], []] if data is None else cbor.decode(data)
        waiting = fields[2]
        first = waiting[2] if waiting else 0
        self.confirmed = first and first + _AGREES_S <= unix_time <= first + _LONGEST_S
        self._fields: "Any" = None
        if self.confirmed:
            fields[2], fields[3] = [], (fields[3] + [waiting[:2]])[-_MOST_STEPS:]
            self._fields = fields
        elif not first <= unix_time < first + _AGREES_S:
            # A boot may have had a time that nothing confirmed: its codes were shown too.
            earliest = min([unix_time] + [one for one in waiting[1:] if one > mark])
            fields[2] = [mark, earliest, unix_time]
            self._fields = fields

    def keep(self, counter: int) -> None:
        """Commit what changed. counter: the new value of the counter `time`, or 0."""
        if self._fields is not None:
            record = cbor.encode(self._fields)
            self._vault.commit({"clock": record}, {"time": counter} if counter else None)
