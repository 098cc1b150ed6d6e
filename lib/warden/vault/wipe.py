"""Destroy a vault.

    wipe(vault)        then start the board anew: it is not provisioned

The vault's own key goes first, by one write that puts a mark in its place: what is left is noise,
with the root key or without. The mark also says that the rest has still to go: after a cut
Vault.open() raises `wiped`, and finish() goes on. The store erases what overwriting and removing
leave on flash (erase_all()). On the unix port this is best effort: the host's filesystem and its
disk keep what they like.
"""

from micropython import const

from ..errors import StoreError
from .opening import WIPED

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from . import Store, Vault


def wipe(vault: "Vault") -> None:
    """Destroy the vault, open or not. StoreError of the store: the next start goes on."""
    store = vault.store
    vault.close()
    # A key that waits to take the other's place (vault/rekey.py) goes with it.
    _unless_damaged(store.change, (("key", WIPED),), ("rekey",))
    finish(store)


def finish(store: "Store") -> None:
    """Erase what a wiped vault left. StoreError vault-unwritten when something is still there."""
    names = [name for name in _unless_damaged(store.names) or () if name != "key"]
    if names:
        _unless_damaged(store.change, (), names)
    store.erase_all()
    if store.names():
        raise StoreError("vault-unwritten", "the flash did not let go of the vault")


def _unless_damaged(step: "Callable[..., Any]", *arguments: "Any") -> "Any":
    """Return step(*arguments), or None when the store is damaged: all of it is erased later."""
    try:
        return step(*arguments)
    except StoreError as error:
        if error.code != "vault-damaged":
            raise
        return None
