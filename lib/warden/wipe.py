"""Destroying a vault: on an order of the authority, or of whoever holds the device.

    wipe(vault)        then start the board anew: it is not provisioned

The vault's own key goes first, by one write that puts a mark into its place: from then on what is left is noise, with the root key or
without. The mark also says that the rest has still to go, should the power fail in between: Vault.open() raises `wiped`, and finish()
goes on. What overwriting and removing leave behind on flash is the store's to erase (erase_all()).

On the unix port this is best effort: the host's filesystem and its disk keep what they like.
"""

from micropython import const

from .errors import StoreError
from .vault import WIPED

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .vault import Store, Vault


def wipe(vault: "Vault") -> None:
    """Destroy the vault, open or not. StoreError: what the store refuses; a wipe that began goes on at the next start."""
    store = vault._store
    vault.close()
    # A key that waits to take the other's place (reseal.py) goes with it.
    store.change((("key", WIPED),), ("rekey",))
    finish(store)


def finish(store: "Store") -> None:
    """Erase what a wiped vault left. StoreError vault-unwritten when the store still holds something afterwards."""
    for name in store.names():
        if name != "key":
            store.remove(name)
    store.erase_all()
    if store.names():
        raise StoreError("vault-unwritten", "the flash did not let go of the vault")
