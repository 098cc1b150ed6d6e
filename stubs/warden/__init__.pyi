"""Types of the device package for programs that editors and type checkers read on the host.

docs/device.md describes each name; tests/test_device_doc.py holds this file, that page and the
device package together.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, overload

from .errors import WardenError as WardenError

__version__: str

_Args = dict[str, Any]
_Plain = TypeVar("_Plain", bound=Callable[[_Args], Any])
_WithCall = TypeVar("_WithCall", bound=Callable[[_Args, Call], Any])
_Health = TypeVar("_Health", bound=Callable[[], Any])

class Device:
    @staticmethod
    def from_board(
        log: Callable[[str, str], object] | None = ...,
        ask: Callable[[], bytes] | None = None,
        sleeps: bool = False,
    ) -> Device: ...
    @overload
    def command(self, name: str, call: Literal[False] = False) -> Callable[[_Plain], _Plain]: ...
    @overload
    def command(self, name: str, call: Literal[True]) -> Callable[[_WithCall], _WithCall]: ...
    def health(self, function: _Health) -> _Health: ...
    async def start(self, timeout: float | None = None) -> None: ...
    async def sleep(self, seconds: int) -> None: ...
    async def tampered(self, at: str = "case") -> None: ...
    async def stop(self, asleep: int | None = None) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    async def publish(
        self,
        event: str,
        body: Mapping[str, Any],
        to: str | None = None,
        qos: Literal[0, 1] = 0,
        timeout: float | None = None,
    ) -> str: ...
    @property
    def connected(self) -> bool: ...
    @property
    def session(self) -> tuple[str, ...]: ...
    async def changed(self, timeout: float | None = None) -> None: ...
    @property
    def secrets(self) -> Secrets: ...

class Refused(Exception):
    code: str
    def __init__(self, code: str) -> None: ...

class Call(Protocol):
    appid: str
    command: str
    left_ms: int | None

class Secrets(Protocol):
    def names(self) -> list[str]: ...
    def get(self, name: str) -> bytes | None: ...
    def set(self, name: str, value: bytes | bytearray) -> None: ...
    def delete(self, name: str) -> None: ...
