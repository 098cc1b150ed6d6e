"""The root key in the fuses, against a model of the HMAC peripheral's registers."""

from harness import check, equal, raises
from hmac_model import HMAC_UP, SYSTEM, Peripheral, Violation
from warden.crypto.kdf import hmac_sha256
from warden.errors import StoreError, UsageError
from warden.hal.rootkey_efuse import EfuseRootKey

PURE = True

K = bytes(range(1, 33))
CHIPS = sorted(SYSTEM)


def pair(chip="esp32s3", block=0, keys=None, **settings):
    model = Peripheral(chip, {0: (HMAC_UP, K)} if keys is None else keys, **settings)
    return EfuseRootKey(chip, block, hmac_sha256, model), model


def refused(function, *arguments):
    check(isinstance(raises("root-key", function, *arguments), StoreError))


def test_every_chip_and_every_length():
    for chip in CHIPS:
        key, _ = pair(chip)
        for size in range(56):
            message = bytes(range(100, 100 + size))
            equal(key.mac(message), hmac_sha256(K, message), "%s %d" % (chip, size))


def test_every_block():
    keys = {block: (HMAC_UP, bytes((block + 1,)) * 32) for block in range(6)}
    for block in range(6):
        key, _ = pair(block=block, keys=keys)
        equal(key.mac(b"m"), hmac_sha256(bytes((block + 1,)) * 32, b"m"))


def test_a_known_answer():
    # RFC 4231, case 1, whose key has 20 bytes and is filled with zeros by HMAC itself.
    key, _ = pair(keys={0: (HMAC_UP, b"\x0b" * 20 + bytes(12))})
    wanted = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    equal(key.mac(b"Hi There").hex(), wanted)


def test_slow_and_fast():
    for turns in (0, 1, 2, 7, 500):
        key, _ = pair(busy=turns)
        equal(key.mac(b"m"), hmac_sha256(K, b"m"))


def test_too_long():
    key, model = pair()
    check(isinstance(raises("bad-argument", key.mac, bytes(56)), UsageError))
    equal(model.steps, [])


def test_a_key_that_is_not_burnt():
    key, _ = pair(block=3)
    check(not key.exists())
    refused(key.mac, b"m")
    refused(key.create)


def test_every_other_purpose():
    for purpose in range(16):
        if purpose != HMAC_UP:
            key, _ = pair(keys={0: (purpose, K)})
            refused(key.mac, b"m")


def test_a_refusal_leaves_it_usable():
    keys = {0: (7, K), 1: (HMAC_UP, K)}
    model = Peripheral("esp32c3", keys)
    refused(EfuseRootKey("esp32c3", 0, hmac_sha256, model).mac, b"m")
    equal(EfuseRootKey("esp32c3", 1, hmac_sha256, model).mac(b"m"), hmac_sha256(K, b"m"))


def test_a_purpose_without_a_key():
    key, _ = pair(keys={0: (HMAC_UP, bytes(32))})
    check(not key.exists())
    refused(key.create)


def test_create_finds_a_good_key():
    key, _ = pair()
    check(key.exists())
    key.create()
    key.close()
    equal(key.mac(b"m"), hmac_sha256(K, b"m"))


def test_the_result_is_wiped():
    key, model = pair()
    key.mac(b"m")
    equal(model.steps[-1], 0x5C)
    equal(model._result, b"")


def test_one_that_never_ends():
    key, _ = pair(busy=None)
    refused(key.mac, b"m")


def test_the_system_registers_are_put_back():
    for chip in CHIPS:
        _, parts = SYSTEM[chip]
        registers = {register for part in parts for register in (part[0], part[2])}
        for fill in (0, 0xFFFFFFFF, 0xA5A5A5A5, 0x5A5A5A5A):
            key, model = pair(chip, system={register: fill for register in registers})
            key.mac(b"m")
            equal(model.system, {register: fill for register in registers}, chip)
            failing, model = pair(chip, keys={}, system={register: fill for register in registers})
            refused(failing.mac, b"m")
            equal(model.system, {register: fill for register in registers}, chip)


def test_unknown_chips_and_blocks():
    for chip, block in (("esp32", 0), ("rp2040", 0), ("esp32s3", 6), ("esp32s3", -1)):
        check(
            isinstance(raises("no-board", EfuseRootKey, chip, block, hmac_sha256, {}), UsageError)
        )


def test_the_model_is_strict():
    """What stands between the driver and a wrong result would be noticed."""

    def violates(work):
        model = Peripheral("esp32s3", {0: (HMAC_UP, K)}, busy=0)
        try:
            work(model)
        except Violation:
            check(True)
            return
        check(False, "the model let it pass")

    base = 0x6003E000

    def on(model):
        model[0x600C001C] = 0x34

    def configure(model):
        on(model)
        for offset, value in ((0x40, 1), (0x44, 8), (0x48, 0), (0x4C, 1)):
            model[base + offset] = value

    def finish(model, block):
        configure(model)
        for at in range(0, len(block), 4):
            model[base + 0x80 + at] = int.from_bytes(block[at : at + 4], "little")
        model[base + 0x50] = 1
        model[base + 0xF4] = 1

    good = b"m" + b"\x80" + bytes(54) + (520).to_bytes(8, "big")
    model = Peripheral("esp32s3", {0: (HMAC_UP, K)}, busy=0)
    finish(model, good)
    violates(lambda model: model[base + 0x6C])  # no clock

    def in_reset(model):
        on(model)
        model[0x600C0024] = 16
        model[base + 0x40] = 1

    violates(in_reset)
    violates(lambda model: (on(model), model[base + 0xC0]))  # no result yet
    violates(lambda model: finish(model, good[:60]))
    violates(lambda model: finish(model, b"m" + bytes(55) + good[56:]))
    violates(lambda model: finish(model, good[:56] + (521).to_bytes(8, "big")))
    violates(lambda model: finish(model, good[:56] + (8).to_bytes(8, "big")))
    violates(lambda model: finish(model, good[:30] + b"\x01" + good[31:]))
    violates(lambda model: (configure(model), model.__setitem__(base + 0x40, 1)))
    busy = Peripheral("esp32s3", {0: (HMAC_UP, K)}, busy=3)
    try:
        configure(busy)
        check(False, "it was written to while it worked")
    except Violation:
        check(True)
