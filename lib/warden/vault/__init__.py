"""Sealed records and counters that only rise, on any store that keeps named records.

    vault = Vault(store, root_key)
    vault.open()
    vault.get("broker")

The store holds three kinds of record (formats: docs/formats.md):

key              the vault's own key, wrapped under a key of the root key: without it all is noise
NAME.GENERATION  a value, sealed under the vault's key, bound to its name and generation
commit           the generation, a tag over the whole set, the counters; the only one replaced

A change puts new records beside the old ones, then replaces `commit`: that last write is the
change. After a cut, records of a later generation than the commit's are swept at open, and so are
those that the commit names obsolete. The tag over the set means that no record can be dropped,
added or swapped for an older version of it. Nothing in the store can tell that the whole store was
played back; the authority sees it by `generation`, which each hello carries.
"""

from micropython import const

from ..crypto import ct
from ..crypto.ccm import CCM
from ..crypto.kdf import hkdf, hmac_sha256
from ..crypto.rand import random_bytes
from ..errors import PeerError, StoreError, UsageError, ensure
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Protocol, Sequence

    Puts = Sequence[tuple[str, bytes]]

    class Store(Protocol):
        def names(self) -> "list[str]": ...
        def read(self, name: str, limit: int) -> "bytes | None": ...
        def write(self, name: str, data: bytes) -> None: ...
        def remove(self, name: str) -> None: ...
        def change(self, puts: "Puts", removes: "Sequence[str]") -> None: ...
        def erase_all(self) -> None: ...

    class RootKey(Protocol):
        def create(self) -> None: ...
        def mac(self, message: bytes) -> bytes: ...
        def close(self) -> None: ...


MAX_VALUE = 4096  # bytes of one value
MAX_RECORDS = 64
MAX_NAME = 40
COUNTER_MAX = (1 << 32) - 1
_FORMAT = const(1)
_NONCE = const(13)
_TAG = const(16)
_OVERHEAD = const(1 + _NONCE + _TAG)
_KEY_SIZE = const(32)
_COMMIT_LIMIT = const(4096)
_CACHE = const(4096)  # bytes of sealed records that open() keeps
# Takes the place of a destroyed key: the wipe may still be under way.
WIPED = b"warden: wiped"
_NAME_CHARACTERS = const(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Vault:
    """Records {name: bytes} and counters {name: int} of one device."""

    def __init__(self, store: "Store", root_key: "RootKey") -> None:
        self.store = store
        self._root = root_key
        self._key = bytearray(_KEY_SIZE)
        self._seal: "CCM | None" = None
        self._nonce_key = self._set_key = b""
        self._current: "dict[str, int]" = {}  # name -> generation of the file that holds it
        self._cache: "dict[str, bytes]" = {}  # records that open() read, until get() or a commit
        self._set = 0
        self.counters: "dict[str, int]" = {}
        self.generation = 0

    def create(self) -> None:
        """Make an empty vault. Until the first commit the store counts as not provisioned."""
        self._not_wiped()
        if self.store.read("commit", _COMMIT_LIMIT) is not None:
            raise StoreError("already-provisioned", "this device has a vault: erase it first")
        self._root.create()
        for name in self.store.names():  # what an interrupted provisioning left
            self.store.remove(name)
        self._write("key", self._new_key())
        self._current, self.counters, self.generation, self._set = {}, {}, 0, 0

    def open(self, keep: bool = False) -> None:
        """Verify the whole set, and remove what an interrupted change left.

        keep: get() hands out once what was read here, until the first commit.
        Raises StoreError: not-provisioned, root-key, vault-damaged.
        """
        try:
            self._load(_CACHE if keep else 0)
        except Exception:  # any at all: a half-open vault would give zeros for its counters
            self.close()
            raise

    def _load(self, room: int) -> None:
        wrapped = self._not_wiped()
        commit = self.store.read("commit", _COMMIT_LIMIT)
        if commit is None:
            raise StoreError("not-provisioned", "this device has no vault: run `warden provision`")
        if wrapped is None:
            raise StoreError("vault-damaged", "the vault's key is gone")
        body = self._open_commit(wrapped, commit)
        if body is None:
            # A new root key was being given (vault/rekey.py): the commit under it exists, its key
            # is not in its place yet.
            known, self._seal = self._seal is not None, None
            wrapped = self.store.read("rekey", _OVERHEAD + _KEY_SIZE) or b""
            body = self._open_commit(wrapped, commit)
            if body is None:
                if known and (self._seal is not None or not wrapped):
                    raise StoreError("vault-damaged", "the commit record was changed")
                raise StoreError("root-key", "another board's vault, or a damaged root key")
            self._write("key", wrapped)
        try:
            fields: "Any" = cbor.decode(body)
        except PeerError:
            raise StoreError("vault-damaged", "the commit record makes no sense")
        # It authenticated, so another form means another version of Warden, not an attack.
        if not isinstance(fields, list) or len(fields) != 5 or fields[0] != _FORMAT:
            raise StoreError("vault-damaged", "the vault was written by another version of Warden")
        self.generation, self.counters = fields[1], fields[3]
        self._sweep(fields[4])
        found, self._cache = 0, {}
        for name, generation in self._current.items():
            blob = self._blob(name, generation)
            found ^= self._contribution(name, generation, blob)
            room -= len(blob)
            if room >= 0:
                self._cache[name] = blob
        if not ct.equal(found.to_bytes(32, "big"), fields[2]):
            raise StoreError("vault-damaged", "a record was removed, added or exchanged")
        self._set = found

    def close(self) -> None:
        """Wipe what can be wiped in RAM. Every later call is a UsageError."""
        ct.wipe(self._key)
        self._seal = None
        self._nonce_key = self._set_key = b""
        self._root.close()
        self._current, self.counters, self._cache = {}, {}, {}

    def names(self) -> "list[str]":
        self._cipher()
        return list(self._current)

    def get(self, name: str) -> "bytes | None":
        """Return a record's value, or None. StoreError vault-damaged when it was changed."""
        cipher = self._cipher()
        generation = self._current.get(name)
        if generation is None:
            return None
        blob = self._cache.pop(name, None) or self._blob(name, generation)
        return bytes(_opened(cipher, blob, record_aad(name, generation)))

    def counter(self, name: str) -> int:
        self._cipher()
        return self.counters.get(name, 0)

    def mac(self, *parts: bytes) -> bytes:
        """Return HMAC-SHA-256 of the joined parts, 32 bytes, for what is kept outside of the
        vault.

        The key is the vault's own, and changes with it.
        """
        self._cipher()
        return hmac_sha256(hkdf(self._key, b"warden vault mac", 32), *parts)

    def put(self, name: str, value: bytes) -> None:
        self.commit({name: value})

    def delete(self, name: str) -> None:
        """Remove a record; it need not exist."""
        self._cipher()
        if name in self._current:
            self.commit({name: None})

    def advance(self, name: str, to: "int | None" = None) -> int:
        """Raise a counter, and return its value once the flash gave it back.

        to: the new value, above the old one; None for one more.
        """
        value = self.counter(name) + 1 if to is None else to
        self.commit({}, {name: value})
        return value

    def commit(
        self, changes: "dict[str, bytes | None]", counters: "dict[str, int] | None" = None
    ) -> None:
        """Apply all changes and all counters, or none of them: the last write decides.

        changes: {name: value, or None to delete}; at most 4,096 bytes a value.
        counters: {name: new value}, each above its old one.

        Raises UsageError bad-argument, bad-name, closed; StoreError counter-limit, vault-limit,
        and what
        the store refuses: then the vault is closed, and the next open() finds the old or the new
        state.
        """
        cipher = self._cipher()
        self._cache = {}
        risen = dict(self.counters)
        for name, number in (counters or {}).items():
            _check_name(name)
            if number <= risen.get(name, 0):
                raise UsageError("bad-argument", "a counter only rises")
            if number > COUNTER_MAX:
                raise StoreError("counter-limit", "a counter of the vault is used up")
            risen[name] = number
        current = dict(self._current)
        for name, value in changes.items():
            _check_name(name)
            if value is None:
                current.pop(name, None)
                continue
            ensure(len(value) <= MAX_VALUE, "bad-argument", "a value has at most 4096 bytes")
            current[name] = 0
        if len(current) > MAX_RECORDS or self.generation >= COUNTER_MAX:
            raise StoreError("vault-limit", "the vault is full")

        # From the first write on, an exception leaves flash and RAM apart: the vault closes, and
        # the next open() heals.
        generation = self.generation + 1
        try:
            tag, obsolete, puts = self._set, [], []
            for name, value in changes.items():
                old = self._current.get(name)
                if old is not None:
                    tag ^= self._contribution(name, old, self._blob(name, old))
                    obsolete.append(file_name(name, old))
                if value is not None:
                    nonce = nonce_for(self._nonce_key, name.encode(), generation, value)
                    blob = sealed(cipher, nonce, value, record_aad(name, generation))
                    puts.append((file_name(name, generation), blob))
                    tag ^= self._contribution(name, generation, blob)
                    current[name] = generation
            body = cbor.encode([_FORMAT, generation, tag.to_bytes(32, "big"), risen, obsolete])
            nonce = nonce_for(self._nonce_key, b"commit", generation, body)
            record = sealed(cipher, nonce, body, b"warden commit 1")
            if len(record) > _COMMIT_LIMIT:
                raise StoreError("vault-limit", "too many changes at once")
            # The store reads each record back while the old ones still stand: one that the flash
            # lost would cost the whole vault.
            puts.append(("commit", record))
            self.store.change(puts, obsolete)
            # Once more before it counts, whatever the store says: a counter that the flash lost
            # would be given out twice.
            self._check("commit", record)
        except Exception:  # any at all: the state on flash is unknown until open() looks again
            self.close()
            raise
        self._current, self.counters, self.generation, self._set = current, risen, generation, tag

    def _cipher(self) -> "CCM":
        if self._seal is None:
            raise UsageError("closed", "the vault is closed: open it again")
        return self._seal

    def _not_wiped(self) -> "bytes | None":
        """Return the wrapped key. StoreError wiped when it was destroyed on purpose."""
        wrapped = self.store.read("key", _OVERHEAD + _KEY_SIZE)
        if wrapped == WIPED:
            raise StoreError("wiped", "this vault was wiped, and the rest of it has still to go")
        return wrapped

    def _new_key(self) -> bytes:
        """Draw a new key for this vault, and return it wrapped under the root key."""
        self._key[:] = random_bytes(_KEY_SIZE)
        self._unlock()
        wrapping = self._root.mac(b"warden vault 1")
        nonce = nonce_for(hkdf(wrapping, b"warden vault nonce", 32), b"key", 0, self._key)
        return sealed(CCM(wrapping), nonce, self._key, b"warden key 1")

    def _open_commit(self, wrapped: bytes, commit: bytes) -> "bytearray | None":
        """Return the commit's content, or None when it was not made under this key.

        `_seal` is set when the root key opened the wrapped key.
        """
        try:
            key = _opened(CCM(self._root.mac(b"warden vault 1")), wrapped, b"warden key 1")
        except StoreError:
            return None
        self._key[:] = key
        ct.wipe(key)
        self._unlock()
        try:
            return _opened(self._cipher(), commit, b"warden commit 1")
        except StoreError:
            return None

    def _write(self, file: str, data: bytes) -> None:
        self.store.write(file, data)
        self._check(file, data)

    def _check(self, file: str, data: bytes) -> None:
        if self.store.read(file, len(data)) != data:
            raise StoreError("vault-unwritten", "the flash did not keep the last change")

    def _unlock(self) -> None:
        self._seal = CCM(hkdf(self._key, b"warden vault seal", 32))
        self._nonce_key = hkdf(self._key, b"warden vault nonce", 32)
        self._set_key = hkdf(self._key, b"warden vault set", 32)

    def _contribution(self, name: str, generation: int, blob: bytes) -> int:
        """Return a record's share of the tag over the set."""
        mac = hmac_sha256(self._set_key, cbor.encode([name, generation]), blob)
        return int.from_bytes(mac, "big")

    def _blob(self, name: str, generation: int) -> bytes:
        blob = self.store.read(file_name(name, generation), _OVERHEAD + MAX_VALUE)
        if blob is None:
            raise StoreError("vault-damaged", "the record %s is gone" % name)
        return blob

    def _sweep(self, obsolete: "Any") -> None:
        """Find the current files, and remove those that a cut left of another generation."""
        current: "dict[str, int]" = {}
        # After a new root key, everything older than the commit is obsolete.
        oldest = 0
        if isinstance(obsolete, int):
            oldest, obsolete = obsolete, ()
        for file in self.store.names():
            if file in ("key", "commit"):
                continue
            if file == "rekey":
                self.store.remove(file)
                continue
            name, generation = _split(file)
            if file in obsolete or not oldest <= generation <= self.generation:
                self.store.remove(file)
            elif name in current:
                raise StoreError("vault-damaged", "a record is there twice")
            elif len(current) >= MAX_RECORDS:
                raise StoreError("vault-damaged", "there are more records than a vault can hold")
            else:
                current[name] = generation
        self._current = current


def _check_name(name: str) -> None:
    ensure(0 < len(name) <= MAX_NAME, "bad-name", "a record's name has 1 to 40 characters")
    for byte in name.encode():  # iterating the text itself would intern its characters
        ensure(byte in _NAME_CHARACTERS, "bad-name", "a record's name is made of A-Z a-z 0-9 _ -")


def file_name(name: str, generation: int) -> str:
    return "%s.%08x" % (name, generation)


def _split(file: str) -> "tuple[str, int]":
    name, _, generation = file.rpartition(".")
    try:
        number = int(generation, 16)
        _check_name(name)
    except (ValueError, UsageError):
        number = -1
    if number < 0 or file != file_name(name, number):
        raise StoreError("vault-damaged", "a file that is no record lies in the vault")
    return name, number


def nonce_for(key: bytes, name: bytes, generation: int, value: "bytes | bytearray") -> bytes:
    # Bound to the value and the generation as well as to chance: a flash that was played back, on
    # a chip whose randomness repeats, still never seals two values under one nonce.
    return hmac_sha256(key, cbor.encode([random_bytes(16), generation, name]), value)[:_NONCE]


def record_aad(name: str, generation: int) -> bytes:
    return cbor.encode(["warden record 1", name, generation])


def sealed(cipher: "CCM", nonce: bytes, value: "bytes | bytearray", aad: bytes) -> bytes:
    """Return format ‖ nonce ‖ ciphertext ‖ tag."""
    record = bytearray(_OVERHEAD + len(value))
    record[0] = _FORMAT
    record[1 : 1 + _NONCE] = nonce
    body = memoryview(record)[1 + _NONCE :]
    body[: len(value)] = value
    cipher.seal(nonce, body, len(value), aad)
    return bytes(record)


def _opened(cipher: "CCM", record: bytes, aad: bytes) -> bytearray:
    """Return the value of a sealed record. StoreError vault-damaged when it was changed."""
    if len(record) < _OVERHEAD or record[0] != _FORMAT:
        raise StoreError("vault-damaged", "a record is cut short or of another version")
    body = bytearray(record[1 + _NONCE :])
    size = len(body) - _TAG
    try:
        cipher.open(record[1 : 1 + _NONCE], body, size, aad)
    except PeerError:
        raise StoreError("vault-damaged", "a record of the vault was changed")
    return body[:size]
