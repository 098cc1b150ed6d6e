"""Provisioned devices that connect to nothing: the parts of their agents are called by hand."""

import asyncio
import sys

sys.path.append(
    __file__.rsplit("/", 1)[0] + "/../../../build/umqtt"
)  # where `make setup` puts umqtt.simple

from board_model import DictStore, RootKey  # noqa: E402
from incident_kit import collect  # noqa: E402
from test_bundle import good  # noqa: E402
from warden.agent.device import Device  # noqa: E402
from warden.provisioning.bundle import install  # noqa: E402
from warden.vault import Vault  # noqa: E402
from warden.wire import cbor  # noqa: E402

NOW = 1800000000
FLOOR = 1700000000


class Clock:
    """A clock chip that stands still."""

    time = NOW

    def now(self):
        return self.time

    def set(self, unix_time):
        return True


def provisioned(bundle=None, store=None):
    """Return the open vault of a device that was provisioned with this bundle."""
    vault = Vault(DictStore() if store is None else store, RootKey())
    install(vault, cbor.encode(good() if bundle is None else bundle))
    return vault


class Rig:
    """A device and its agent; what they logged, as (code, text); how often they restarted."""

    def __init__(self, vault=None, panel=None, restarts=True):
        self.logged = []
        self.restarts = 0
        self.clock = Clock()
        self.device = Device(
            provisioned() if vault is None else vault,
            self.clock,
            None,
            FLOOR,
            lambda code, text: self.logged.append((code, text)),
            self._restart if restarts else None,
            panel,
        )
        self.agent = self.device._agent

    def _restart(self):
        self.restarts += 1

    def start(self):
        """Make the sessions and features, and the tasks, in a running loop."""
        from warden.agent.build import start  # here: Device.start() empties this module

        parts, self.device._parts = self.device._parts, None
        start(self.agent, *parts)

    def start_without_tasks(self):
        """Make the sessions and features; the tasks end before their first step."""

        async def run():
            self.start()
            self.end_tasks()

        asyncio.run(run())
        return self

    def end_tasks(self):
        self.agent.stopping = True
        for task in self.agent.tasks:
            task.cancel()

    def codes(self):
        """Return the codes that were logged."""
        return [code for code, _ in self.logged]

    def incidents(self):
        """Return the incidents since the last call: bodies of their reports."""
        return collect(self.agent.incidents)
