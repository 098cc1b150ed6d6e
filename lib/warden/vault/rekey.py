"""Seal a vault anew under another root key, cut-safe.

    vault = reseal(vault, new_root_key)

The vault's own key changes too: wrapped anew, it would stay readable for an attacker with the old
root key and an old copy of the flash, and so would everything that is sealed later.

The order: `rekey`, the new vault key under the new root key; each record under it, beside the old
one; `commit`, the write that is the change; then `rekey` becomes `key`, and the old records go. A
cut before the commit leaves the old vault, which only the old root key opens. A cut after it
leaves the new vault, which only the new root key opens; Vault.open() finishes it.
"""

from micropython import const

from ..errors import StoreError
from ..wire import cbor
from . import COUNTER_MAX, Vault
from .opening import new_keys
from .sealing import FORMAT, file_name, nonce_for, record_aad, sealed

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from . import RootKey


def reseal(vault: Vault, new_root_key: "RootKey") -> Vault:
    """Return the same vault, open under a new root key; close the old one and its root key.

    vault: open.
    new_root_key: not created yet.

    Raises UsageError closed; StoreError of the store or of the new root key: then both vaults are
    closed, and one of the two root keys opens what the flash holds, whole.
    """
    fresh = _Resealed(vault.store, new_root_key)
    try:
        fresh.fill(vault, new_root_key)
    except Exception:  # any at all: which of the two vaults is on the flash, open() finds out
        fresh.close()
        vault.close()
        raise
    vault.close()
    return fresh


class _Resealed(Vault):
    """The vault under the new root key."""

    def fill(self, old: Vault, root: "RootKey") -> None:
        """Seal every record and counter of the old vault, and commit. root: the new one."""
        names, store = old.names(), self.store
        generation = old.generation + 1
        if generation > COUNTER_MAX:
            raise StoreError("vault-limit", "the vault is full")
        obsolete = [file for file in store.names() if file not in ("key", "commit")]
        root.create()
        keys, wrapped = new_keys(root)
        self._keys = keys
        store.change((("rekey", wrapped),), ())
        # One record at a time: together they may be larger than the heap.
        for name in names:
            value = old.get(name) or b""
            nonce = nonce_for(keys.nonce_key, name.encode(), generation, value)
            blob = sealed(keys.cipher(), nonce, value, record_aad(name, generation))
            store.change(((file_name(name, generation), blob),), ())
            self._set ^= keys.contribution(name, generation, blob)
            self._current[name] = generation
        # The last field says that every earlier generation is obsolete: a list of it all would not
        # fit.
        self.counters = dict(old.counters)
        tag = self._set.to_bytes(32, "big")
        body = cbor.encode([FORMAT, generation, tag, self.counters, generation])
        nonce = nonce_for(keys.nonce_key, b"commit", generation, body)
        record = sealed(keys.cipher(), nonce, body, b"warden commit 1")
        store.change((("commit", record),), ())
        self._check("commit", record)
        self.generation = generation
        store.change((("key", wrapped),), obsolete + ["rekey"])
        self._check("key", wrapped)
