"""Print what each line of the demo tried and what happened; wait for what a line needs."""

import contextlib
import queue
import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from warden_host.errors import HostError

T = TypeVar("T")


class Mismatch(Exception):
    """The result differs from the expected one."""


class Story:
    """Print the lines, and count failures."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failures = 0
        self._started = time.monotonic()

    def chapter(self, title: str) -> None:
        """Print the title of a chapter."""
        self._console.print(f"\n[bold]{title}[/bold]")

    def line(self, tried: str, work: Callable[[], str]) -> None:
        """Run work and print its result. work() raises Mismatch or HostError on a failure."""
        try:
            happened, mark = work(), "[green]✓[/green]"
        except (Mismatch, HostError) as error:
            happened, mark = f"[red]{error}[/red]", "[red]✗[/red]"
            self.failures += 1
        self._console.print(f" {mark} {tried:<46} {happened}")

    def end(self) -> int:
        """Print the result, and return the exit code."""
        seconds = time.monotonic() - self._started
        if self.failures:
            self._console.print(f"\n[red]{self.failures} lines went wrong.[/red]")
            return 1
        self._console.print(f"\n[green]Everything as it should be[/green], in {seconds:.0f} s.")
        return 0


def wait_for(
    waiting: "queue.Queue[T]", wanted: Callable[[T], bool], name: str, seconds: float
) -> T:
    """Return the next item that is wanted, and drop those before it; raises Mismatch."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            item = waiting.get(timeout=left)
            if wanted(item):
                return item
    raise Mismatch(f"no {name} in {seconds:g} s")
