"""Changes that the authority orders, with power cuts at every operation of the store."""

import asyncio

from agent_kit import Rig
from board_model import DictStore, PowerCut, RootKey
from harness import check
from warden.vault import Vault


class OrderedRig(Rig):
    """A device whose tasks are run by hand, and to which the authority gives orders."""

    command = ""

    def __init__(self, vault):
        super().__init__(vault)
        self.vault = vault

    def run(self, **args):
        """Run the command; after the reply of an order the connection is closed."""
        result = self.agent.run_authority_command(self.command, args)
        if self.agent.after_reply is not None:
            after, self.agent.after_reply = self.agent.after_reply, None
            asyncio.run(after(self.agent))
        return result


def opened(store, alone=False):
    """Open the vault in a store, as a start does."""
    vault = Vault(store, RootKey())
    vault.open(alone)
    return vault


def reopened(vault):
    """Open a vault once more, as the next start does."""
    return opened(vault.store)


def cut_everywhere(provide, life, verify, again=False, step=1):
    """Cut the power once at each operation of a device's lives; with `again` more than once.

    provide(store): make the device; not cut. life(vault, done): one start, until the power goes;
    True where nothing is left to do; it appends to `done`, which the lives after a cut keep.
    verify(vault): check what is there in the end. step: from one cut to the next.
    """
    cut = 0
    whole = False
    while not whole:
        store = DictStore()
        provide(store)
        store.budget = cut
        done = []
        starts = 0
        while True:
            starts += 1
            check(starts < 60, "it never ends")
            try:
                if life(opened(store, True), done):
                    whole = starts == 1
                    break
            except PowerCut:
                store.budget = 5 + starts if again else None
        store.budget = None
        verify(opened(store))
        cut += step
    check(cut > 5, "%d operations" % cut)
