"""Ask the kernel which connections of the broker are open, at a bounded rate."""

import time
from collections.abc import Callable, Collection, Iterable

from warden_host import tcp_diag

_LEAST_S = 0.05  # between two looks: a flood of refused log-ins takes no more of the processor


class LivingPeers:
    """ports: returns those of the listeners. clock: steady seconds. For one thread."""

    def __init__(
        self, ports: Callable[[], Iterable[int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ports = ports
        self._clock = clock
        self._looked = float("-inf")

    def look(self) -> Collection[tuple[str, int]]:
        """Return address and port of each connection that is open now.

        Return none where the kernel does not tell, or too soon after the last look: the older
        answer may hold a connection that the broker has refused since.
        """
        now = self._clock()
        if now - self._looked < _LEAST_S:
            return ()
        self._looked = now
        found: set[tuple[str, int]] = set()
        try:
            for port in self._ports():
                found.update(tcp_diag.received(port))
        except (OSError, AttributeError):  # no Linux, or a kernel without it
            return ()
        return found
