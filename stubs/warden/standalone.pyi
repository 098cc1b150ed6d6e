import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .vault import Vault

class Rtc(Protocol):
    def now(self) -> int: ...
    def set(self, unix_time: int) -> bool: ...

def create_vault(ask: Callable[[], bytes] | None = None) -> Vault: ...
def store(
    vault: Vault,
    server: tuple[str, int],
    client_id: str,
    user: bytes | None,
    password: bytes | None,
    cas: Sequence[bytes],
    pins: Sequence[bytes],
    networks: Sequence[tuple[str, bytes]] | None = None,
) -> None: ...

class Connection:
    up: asyncio.Event
    def __init__(
        self,
        vault: Vault,
        rtc: Rtc,
        on_message: Callable[[memoryview, memoryview], None],
        floor: int = 0,
        keepalive_s: int = 60,
        max_message: int = 2048,
        stall_ms: int = 5000,
        handshake_ms: int = 20000,
        backoff_ms: tuple[int, int] = (1000, 60000),
        will: tuple[str, bytes] | None = None,
        network: Any = None,
        log: Callable[[str, str], None] = ...,
    ) -> None: ...
    @staticmethod
    def from_board(
        on_message: Callable[[memoryview, memoryview], None],
        ask: Callable[[], bytes] | None = None,
        *,
        keepalive_s: int = 60,
        max_message: int = 2048,
        stall_ms: int = 5000,
        handshake_ms: int = 20000,
        backoff_ms: tuple[int, int] = (1000, 60000),
        will: tuple[str, bytes] | None = None,
        log: Callable[[str, str], None] = ...,
    ) -> Connection: ...
    async def subscribe(self, topic: str, qos: int = 1) -> None: ...
    async def publish(self, topic: str, payload: bytes | memoryview, qos: int = 0) -> None: ...
    async def run(self) -> None: ...
    async def stop(self) -> None: ...
