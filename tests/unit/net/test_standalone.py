"""The link of a program without the authority: what it keeps in the vault, and what it refuses."""

import asyncio
import sys

from board_model import DictStore, RootKey
from harness import check, equal, raises
from warden.board import load
from warden.errors import WardenError
from warden.standalone import Connection, create_vault, store
from warden.vault import Vault
from warden.wire import cbor

CA, PINS = b"a certificate", [b"P" * 32, b"Q" * 32]
SERVER = ("127.0.0.1", 1)  # none listens there
SECRET = bytes(range(256))


class Clock:
    def now(self):
        return 1800000000

    def set(self, unix_time):
        return True


def vault():
    made = Vault(DictStore(), RootKey())
    made.create()
    return made


def test_what_is_kept_by_one_commit():
    made = vault()
    before = made.generation
    store(made, SERVER, "porch", b"user", SECRET, [CA], PINS, [("home", b"pass word")])
    equal(made.generation, before + 1)
    equal(cbor.decode(made.get("broker")), [SERVER[0], 1, b"user", SECRET, "porch"])
    equal(cbor.decode(made.get("trust")), [[CA], PINS])
    equal(cbor.decode(made.get("network")), [["home", b"pass word"]])
    store(made, SERVER, "porch", None, None, [CA], PINS)
    equal(cbor.decode(made.get("network")), None)


def test_what_is_refused():
    made = vault()
    good = [SERVER, "porch", b"user", b"secret", [CA], PINS, None]
    for at, value in (
        (0, ("", 1)),
        (0, ("h" * 254, 1)),
        (0, ("host", 0)),
        (0, ("host", 65536)),
        (1, ""),
        (1, "c" * 129),
        (2, None),
        (3, None),
        (4, []),
        (4, [bytes(4096)]),
        (5, PINS[:1]),
        (5, [b"short", b"other"]),
        (6, []),
        (6, [("", b"")]),
        (6, [("home", b"p" * 65)]),
    ):
        given = list(good)
        given[at] = value
        try:
            store(made, *given)
            check(False, "%d %s" % (at, value))
        except WardenError as error:
            equal(error.code, "bad-argument")
    equal(made.names(), [])
    raises("not-provisioned", Connection, made, Clock(), print)
    store(made, *good)
    connection = Connection(made, Clock(), print, max_message=512)
    raises("bad-argument", lambda: asyncio.run(connection.publish("porch/t", bytes(501))))


class Board:
    NAME = "TEST"
    STORE = ROOT_KEY = ("none",)
    NETWORK = "wired"
    CLOCK = ("chip",)
    FLOOR = 1700000000


def test_on_a_board():
    parts = load.store, load.root_key
    kept = DictStore()
    load.store, load.root_key = lambda _: kept, lambda *_: RootKey()
    sys.modules["board"] = Board
    logged = []
    try:
        made = create_vault()
        store(made, SERVER, "porch", b"user", SECRET, [CA], PINS)
        made.close()
        raises("already-provisioned", create_vault)
        connection = Connection.from_board(print, log=lambda code, _: logged.append(code))
        equal("board" in sys.modules, False)
    finally:
        load.store, load.root_key = parts
        sys.modules.pop("board", None)

    async def run():
        task = asyncio.create_task(connection.run())
        while not logged:
            await asyncio.sleep_ms(10)
        check(not connection.up.is_set())
        task.cancel()
        await connection.stop()

    asyncio.run(run())
    check(logged[0] in ("unreachable", "link-timeout"), logged)
