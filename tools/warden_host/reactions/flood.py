"""Find the account that floods: what each device costs, in three leaky buckets.

Nothing here does I/O or knows a clock: times are steady seconds, passed in. A bucket holds what
came above the budget; it leaks at the budget's rate. A device is a flooder when one of its buckets
holds more than tolerance_s seconds' worth of its budget: a burst, such as an outbox that is sent
at once, passes. Memory is bounded by the devices of the fleet.
"""

from collections.abc import Callable
from dataclasses import dataclass

from warden_host.reactions.settings import Budget


@dataclass(slots=True)
class _Account:
    budget: Budget
    leaked: float  # when the buckets leaked last
    messages: float = 0.0
    kib: float = 0.0
    processor_ms: float = 0.0
    total: int = 0  # messages since the flood began to build up
    began: float = 0.0  # when that was
    found: bool = False

    def leak(self, now: float) -> None:
        passed, budget = now - self.leaked, self.budget
        self.leaked = now
        if passed <= 0:
            return
        # Without max(), which is slower: every message passes here in both directions.
        left = self.messages - passed * budget.messages_s
        self.messages = left if left > 0 else 0.0
        left = self.kib - passed * budget.kib_s
        self.kib = left if left > 0 else 0.0
        left = self.processor_ms - passed * budget.processor_ms
        self.processor_ms = left if left > 0 else 0.0
        if not self.messages and not self.processor_ms:
            self.total, self.began = 0, now

    @property
    def excess(self) -> str:
        """Return which budget was exceeded, or ""."""
        budget, most = self.budget, self.budget.tolerance_s
        if self.messages > most * budget.messages_s:
            return f"more than {budget.messages_s} messages a second"
        if self.kib > most * budget.kib_s:
            return f"more than {budget.kib_s} KiB a second"
        if self.processor_ms > most * budget.processor_ms:
            return f"more than {budget.processor_ms} ms of processor time a second"
        return ""


class FloodMeter:
    """Not thread-safe: the owner locks it. budget_of(device): called once for each device."""

    def __init__(self, budget_of: Callable[[str], Budget]) -> None:
        self._budget_of = budget_of
        self._accounts: dict[str, _Account] = {}

    def count(self, device: str, size: int, now: float) -> str:
        """Count a message of `size` bytes; return why its device is a flooder, once, else ""."""
        account = self._account(device, now)
        account.messages += 1
        account.kib += size / 1024
        account.total += 1
        return self._found(device, account, now)

    def spend(self, device: str, seconds: float, now: float) -> str:
        """Count the engine's time for a message; return as count()."""
        account = self._account(device, now)
        account.processor_ms += seconds * 1000
        return self._found(device, account, now)

    def reset(self, device: str) -> None:
        """Drop the account of a device, so that a flood of it can be found again."""
        self._accounts.pop(device, None)

    def _account(self, device: str, now: float) -> _Account:
        account = self._accounts.get(device)
        if account is None:
            account = _Account(self._budget_of(device), now, began=now)
            self._accounts[device] = account
        account.leak(now)
        return account

    def _found(self, device: str, account: _Account, now: float) -> str:
        if account.found:
            return ""
        excess = account.excess
        if not excess:
            return ""
        account.found = True
        took = now - account.began
        return f"{excess}: {account.total} messages within {took:.1f} s"
