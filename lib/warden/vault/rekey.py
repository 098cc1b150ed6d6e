"""A new root key, and with it a new key of the vault: everything is sealed anew, cut-safe.

    reseal(vault, new_root_key)

To wrap the same vault key anew would not do where a root key got out: with it and an old copy of the flash somebody has the vault's key,
and with that everything that is sealed later. So the vault's key changes as well.

In this order: `rekey`, the new vault key under the new root key; each record under it, beside the old one; `commit`: that write is the
change; then `rekey` becomes `key`, and the old records go. A cut before the commit leaves the old vault, which the old root key alone
opens; one after it the new vault, which the new root key alone opens, and Vault.open() finishes what was left.
"""

from micropython import const

from ..crypto import ct
from ..errors import StoreError
from ..wire import cbor
from . import COUNTER_MAX, Vault, file_name, nonce_for, record_aad, sealed

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from . import RootKey

_FORMAT = const(1)


def reseal(vault: Vault, new_root_key: "RootKey") -> None:
    """The vault must be open; afterwards it is open under the new root key, and the old one is closed. UsageError closed. StoreError: what the
    store or the new root key refuses; the vault is closed then, and one of the two root keys opens it, whole."""
    names = vault.names()
    fresh = Vault(vault._store, new_root_key)
    try:
        _change(vault, fresh, names)
    except Exception:  # any at all: which of the two vaults is on the flash, open() finds out
        fresh.close()
        vault.close()
        raise
    vault._root.close()
    vault._root = new_root_key
    vault._key[:] = fresh._key
    ct.wipe(fresh._key)
    vault._unlock()
    vault.generation, vault._set = fresh.generation, fresh._set
    vault._current = fresh._current


def _change(vault: Vault, fresh: Vault, names: "list[str]") -> None:
    store = vault._store
    generation = vault.generation + 1
    if generation > COUNTER_MAX:
        raise StoreError("vault-limit", "the vault is full")
    fresh._root.create()
    wrapped = fresh._new_key()
    store.change((("rekey", wrapped),), ())
    obsolete = []
    # One record at a time: together they may be larger than the heap.
    for name in names:
        value = vault.get(name) or b""
        nonce = nonce_for(fresh._nonce_key, name.encode(), generation, value)
        blob = sealed(fresh._cipher(), nonce, value, record_aad(name, generation))
        store.change(((file_name(name, generation), blob),), ())
        fresh._set ^= fresh._contribution(name, generation, blob)
        fresh._current[name] = generation
        obsolete.append(file_name(name, vault._current[name]))
    # The last field says that everything of an earlier generation is obsolete: a list of it all would not fit.
    body = cbor.encode(
        [_FORMAT, generation, fresh._set.to_bytes(32, "big"), vault._counters, generation]
    )
    nonce = nonce_for(fresh._nonce_key, b"commit", generation, body)
    record = sealed(fresh._cipher(), nonce, body, b"warden commit 1")
    store.change((("commit", record),), ())
    fresh._check("commit", record)
    fresh.generation = generation
    store.change((("key", wrapped),), obsolete + ["rekey"])
    fresh._check("key", wrapped)
