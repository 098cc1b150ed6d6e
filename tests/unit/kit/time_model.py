"""asyncio on a clock that only sleeping moves: a test of timers takes no time, and a slow machine
does not change what it sees.

with ModelTime():
    asyncio.run(work())

ModelTime(module, …): the module's own `time` is this clock as well.
"""

import asyncio
import time

# Ahead of the real ticks, by which what is ready at once is queued: that always comes first. Less
# than half of their period.
_AHEAD_MS = 1 << 28


class Never(Exception):
    """All tasks wait for what nothing will bring."""


class ModelTime:
    ticks_add = staticmethod(time.ticks_add)
    ticks_diff = staticmethod(time.ticks_diff)

    def __init__(self, *modules):
        self._modules = modules

    def ticks_ms(self):
        return self._now

    def __enter__(self):
        self._core = core = asyncio.core
        self._real = core.ticks
        self._now = time.ticks_add(time.ticks_ms(), _AHEAD_MS)
        asyncio.new_event_loop()
        core.ticks = lambda: self._now
        self._poller = core._io_queue.poller
        core._io_queue.poller = self
        for module in self._modules:
            module.time = self
        return self

    def __exit__(self, *_):
        self._core.ticks = self._real
        for module in self._modules:
            module.time = time
        # With what was left in it, which sleeps by this clock.
        asyncio.new_event_loop()

    def ipoll(self, ms):
        """In the place of waiting: what is ready, or the next timer is due."""
        ready = [(each[0], each[1]) for each in self._poller.ipoll(0)]
        if not ready:
            if ms < 0:
                raise Never()
            self._now = time.ticks_add(self._now, ms)
        return ready

    def register(self, *args):
        self._poller.register(*args)

    def unregister(self, *args):
        self._poller.unregister(*args)

    def modify(self, *args):
        self._poller.modify(*args)
