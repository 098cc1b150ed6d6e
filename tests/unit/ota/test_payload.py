"""Encrypted images: anything that does not authenticate is refused before a byte is written."""

from harness import check, equal, raises
from test_download import NEW, OLD, feed, installed, restart, settle, states
from update_kit import CLASS, VENDOR, Installer, Key, envelope, sha256
from warden.crypto.ccm import CCM
from warden.crypto.kdf import hkdf
from warden.ota.slots import CONFIRMED, EMPTY, STAGED, SlotRecord
from warden.wire import cbor

HEAP = "8m"  # boards of 64 to 128 KB, one after the other

TYPE, DEVICE = "lamp", "D1"
K = bytes(range(32))
CONTENT = bytes(range(100, 132))


def seal(key, nonce, data, aad=b""):
    out = bytearray(len(data) + 16)
    out[: len(data)] = data
    CCM(key).seal(nonce, out, len(data), aad)
    return bytes(out)


def info(content=CONTENT, alg=-70001):
    kid = hkdf(content, cbor.encode(["warden1", "payload kid"]), 8)
    return b"\xd0" + cbor.encode([cbor.encode({1: alg, 4: kid}), {}, None])


def encrypted(data, sequence, name="app", content=CONTENT):
    text = cbor.encode(["warden1", "payload", sequence, name, len(data), sha256(data)])
    key = hkdf(content, text, 32)
    out = b""
    for at in range(0, len(data), 1008):
        out += seal(key, (at // 1008).to_bytes(13, "big"), data[at : at + 1008])
    return out


def digest_in(made):
    """Return the manifest's digest within an envelope.

    It follows the tag, the map's head, two heads of byte strings, the array, -16 and its head.
    """
    at = made.find(b"\x82\x2f\x58\x20") + 4
    return made[at : at + 32]


def wrapped(made, content=CONTENT, key=K, device=DEVICE, aad=None):
    secret = hkdf(key, cbor.encode(["warden1", "payload", 1, TYPE, device, "authority"]), 32)
    aad = aad or cbor.encode(["warden1", "payload key", digest_in(made)])
    return b"n" * 13 + seal(secret, b"n" * 13, content, aad)


def board_of(**more):
    board = installed(**more)
    vault = board.vault()
    vault.commit(
        {
            "identity": cbor.encode([TYPE, DEVICE]),
            "app_lamps": cbor.encode([bytes(32), False, []]),
            "app_authority": cbor.encode([K, True, []]),
        }
    )
    restart(board)
    return board


def updater(board, chunk=1024):
    return Installer(
        board.vault(), board.running, board.outcome.slot, (Key(),), VENDOR, CLASS, chunk
    )


def release(sequence=2, data=NEW):
    return envelope(sequence, [data], encryption={"app": info()})


def test_an_encrypted_update():
    for chunk in (1024, 256, 1000, 17):
        board = board_of()
        update = updater(board, chunk)
        made = release()
        update.start(made, 0, wrapped(made))
        coming = encrypted(NEW, 2)
        equal(len(coming), len(NEW) + 16 * 12)
        seen = feed(update, {"app": coming})
        equal(seen, ["Downloading", "Verifying", "Installing", "Testing"])
        equal((update.update.key, update.download), (None, None))
        restart_on_trial(board)
    # What lies in the slot is the plain image.
    with open("/ram/slots/app.1", "rb") as file:
        check(file.read() == NEW)
    board.off()


def restart_on_trial(board):
    board.power_on()
    outcome = board.start()
    equal((outcome.slot, outcome.trial, board.mark()), (1, True, "new"))


def test_any_size():
    for size in (1, 15, 1007, 1008, 1009, 2016, 5000):
        data = (NEW * 2)[:size]
        board = board_of()
        update = updater(board)
        made = release(2, data)
        update.start(made, 0, wrapped(made))
        feed(update, {"app": encrypted(data, 2)})
        equal(update.state, "Testing")
        with open("/ram/slots/app.1", "rb") as file:
            check(file.read() == data)
        board.off()


def test_the_key():
    """Nothing is written for any key but the right one."""
    board = board_of()
    before = bytes(board.disk.data)
    log = len(board.store.log)
    made = release()
    good = wrapped(made)
    other = release(3)
    flipped = [good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :] for at in (0, 12, 13, 44, 60)]
    for key in flipped + [
        None,
        b"",
        good[:-1],
        good + b"x",
        wrapped(made, key=bytes(32)),
        wrapped(made, device="D2"),
        wrapped(other),
        wrapped(made, aad=cbor.encode(["warden1", "payload", digest_in(made)])),
        wrapped(made, content=bytes(32)),  # opens, and is not the one that the manifest names
    ]:
        update = updater(board)
        raises("payload-key", update.start, made, 0, key)
        equal((update.state, update.reason, update.update.key), ("Rejected", "payload-key", None))
    # A key for what is not encrypted.
    update = updater(board)
    plain = envelope(2, [NEW])
    raises("payload-key", update.start, plain, 0, wrapped(plain))
    check(bytes(board.disk.data) == before)
    equal(len(board.store.log), log)
    board.off()


def test_two_components():
    """One of them encrypted, or both; each kid is looked at."""
    names = ("app", "web")
    board = board_of(names=names)
    both = {"app": info(), "web": info()}
    for encryption in ({"web": info()}, both):
        made = envelope(2, [NEW, OLD], names=names, encryption=encryption)
        update = updater(board)
        update.start(made, 0, wrapped(made))
        images = {"app": NEW, "web": OLD}
        for name in encryption:
            images[name] = encrypted(images[name], 2, name)
        feed(update, images)
        equal(update.state, "Testing")
    mixed = envelope(
        2, [NEW, OLD], names=names, encryption={"app": info(), "web": info(b"x" * 32)}
    )
    raises("payload-key", updater(board).start, mixed, 0, wrapped(mixed))
    # One component's segments in the place of the other's.
    made = envelope(2, [NEW, NEW], names=names, encryption=both)
    update = updater(board)
    update.start(made, 0, wrapped(made))
    raises("payload-tampered", feed, update, {"app": encrypted(NEW, 2, "web")})
    board.off()


def test_other_ways_of_encryption():
    board = board_of()
    good = info()
    for bad in (
        b"",
        good[:-1],
        good + b"x",
        good[:-2] + b"x" + good[-2:],
        info(alg=31),
        b"\xd8\x60" + good[1:],
        good[:3] + b"\xa1" + good[4:],
        good[:-1] + b"\x40",
    ):
        made = envelope(2, [NEW], encryption={"app": bad})
        raises("suit-unsupported", updater(board).start, made, 0, wrapped(made))
    made = envelope(2, [NEW], encryption={"app": good + bytes(60)})
    raises("suit-limit", updater(board).start, made, 0, wrapped(made))
    board.off()


def refused(board, coming, written, code="payload-tampered"):
    """Feed a ciphertext that is refused at a segment.

    written: bytes of the plain image that are on the flash by then
    """
    made = release()
    update = updater(board)
    update.start(made, 0, wrapped(made))
    raises(code, feed, update, {"app": coming})
    state = update.state
    equal((update.reason, update.update.key, update.download), (code, None, None))
    equal(board.running.size(1, "app"), written)
    return state


def test_segments():
    good = encrypted(NEW, 2)
    parts = [good[at : at + 1024] for at in range(0, len(good), 1024)]
    flipped = [bytearray(good) for _ in range(4)]
    for data, at in zip(flipped, (0, 1007, 1008, 1023)):  # noqa: B905  (not in MicroPython)
        data[at] ^= 1
    cases = (
        [(bytes(data), 0) for data in flipped]
        + [
            (parts[1] + parts[0] + b"".join(parts[2:]), 0),  # swapped
            (parts[0] + parts[0] + b"".join(parts[2:]), 1008),  # twice
            (parts[0] + b"".join(parts[2:]) + bytes(1024), 1008),  # one left out
            (b"".join(parts[:-1]) + bytes(len(parts[-1])), 1008 * (len(parts) - 1)),  # cut short
            (encrypted(NEW, 3), 0),  # another release with the same key
            (encrypted(OLD + bytes(len(NEW) - len(OLD)), 2), 0),  # another image
            (encrypted(NEW, 2, content=bytes(32)), 0),  # another key
            (NEW + bytes(len(good) - len(NEW)), 0),  # not encrypted
        ]
    )
    for coming, written in cases:
        board = board_of()
        for state in ("Aborted", "Aborted", "Rejected"):
            equal(refused(board, coming, written), state)
        # The third time the manifest counts as failed.
        made = release()
        raises("old-manifest", updater(board).start, made, 0, wrapped(made))
        equal(states(board), [CONFIRMED, EMPTY])
        board.off()


def test_what_authenticated_stays():
    """After a bad segment the same manifest resumes behind the good ones."""
    board = board_of()
    good = encrypted(NEW, 2)
    bad = bytearray(good)
    bad[5 * 1024 + 3] ^= 1
    equal(refused(board, bytes(bad), 5 * 1008), "Aborted")
    made = release()
    update = updater(board)
    update.start(made, 0, wrapped(made))
    settle(update)
    equal(update.want()[2], 5 * 1024)
    feed(update, {"app": good})
    equal(states(board), [CONFIRMED, STAGED])
    restart_on_trial(board)
    board.off()


def test_resume_in_the_midst_of_a_segment():
    """The filesystem may keep any number of bytes.

    The segment's kept bytes are authenticated again, and not written twice.
    """
    good = encrypted(NEW, 2)
    made = release()
    for have in (1, 1007, 1008, 1009, 5000, len(NEW) - 1, len(NEW)):
        for chunk in (1024, 100):
            board = board_of()
            update = updater(board)
            update.start(made, 0, wrapped(made))
            settle(update)
            update.abort()
            with board.running.write(1, "app") as file:
                file.write(NEW[:have])
            board.power_on()
            board.outcome = board.start()
            update = updater(board, chunk)
            update.start(made, 0, wrapped(made))
            settle(update)
            if have < len(NEW):
                equal(update.want()[2], have // 1008 * 1024)
            feed(update, {"app": good})
            equal(update.state, "Testing")
            with open("/ram/slots/app.1", "rb") as file:
                check(file.read() == NEW)
            board.off()


def test_the_signed_digest_decides():
    """Authentic segments of another image are refused.

    The content key alone does not authorize an image.
    """
    board = board_of()
    made = release()
    other = NEW[:-1] + b"?"
    text = cbor.encode(["warden1", "payload", 2, "app", len(NEW), sha256(NEW)])
    key = hkdf(CONTENT, text, 32)
    coming = b""
    for at in range(0, len(other), 1008):
        coming += seal(key, (at // 1008).to_bytes(13, "big"), other[at : at + 1008])
    update = updater(board)
    update.start(made, 0, wrapped(made))
    feed(update, {"app": coming})
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    equal(board.running.size(1, "app"), 0)
    board.off()


def test_during_a_rotation():
    """The authority may speak under the key that is to follow."""
    board = board_of()
    following = b"f" * 32
    made = release()
    raises("payload-key", updater(board).start, made, 0, wrapped(made, key=following))
    rotation = [1, 7, bytes(32), None, None, {"lamps": bytes(32)}, None]
    vault = board.vault()
    vault.commit({"rotation": cbor.encode(rotation)})
    raises("payload-key", updater(board).start, made, 0, wrapped(made, key=following))
    rotation[5]["authority"] = following
    vault = board.vault()
    vault.commit({"rotation": cbor.encode(rotation)})
    for key in (K, following):
        update = updater(board)
        update.start(made, 0, wrapped(made, key=key))
        equal(update.state, "Downloading")
        update.abort()
        equal(update.update.key, None)
    board.off()


def test_a_plain_update_loads_nothing_of_it():
    import sys

    sys.modules.pop("warden.ota.payload", None)
    board = board_of()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    check("warden.ota.payload" not in sys.modules)
    equal(SlotRecord(board.vault()).slots[1].granted, False)
    board.off()


def test_orders():
    """An order holds envelope, key and grant; anything else in it is refused."""
    from test_service import install, order, start

    board = board_of()
    device, one = start(board)
    made = release()
    key = wrapped(made)
    for more in ({"key": 5}, {"key": None}, {"grant": 1}, {"grant": False}, {"more": b""}):
        equal(order(one, envelope=made, **more), "bad-body")
    equal(order(one, key=key), "bad-body")
    equal(order(one, envelope="text"), "bad-body")
    equal(order(one, envelope=made), "payload-key")
    status = order(one, envelope=made, key=key, grant=True)
    equal(status["want"], [0, "app", 0, 1024])
    # The board starts anew once all of it is staged, and for no other order.
    equal((device.after_reply, device.resets), (None, 0))
    equal(install(one, status, encrypted(NEW, 2))["state"], "Testing")
    check(device.after_reply is not None)
    slot = SlotRecord(board.vault()).slots[1]
    equal((slot.state, slot.granted, slot.manifest), (STAGED, True, digest_in(made)))
    board.off()
