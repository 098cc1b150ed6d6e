"""An ESP32's flash with OTA partitions, its bootloader, and `esp32.Partition` over them, as
MicroPython's ports/esp32/esp32_partition.c and ESP-IDF's esp_ota_ops.c say; the bootloader by
ESP-IDF's description of its rollback, not by its source.

A program only clears bits (Misused otherwise), an erase takes whole sectors of 4,096 bytes.
otadata: two sectors, each with an entry of 32 bytes: sequence (4), label (20), state (4), CRC-32
of the sequence alone (4). The higher sequence counts, of the entries whose CRC is right and whose
state is neither invalid nor aborted; partition = (sequence - 1) modulo how many there are. The
bootloader turns new into pending-verify when it starts it, and what it finds pending at the next
start into aborted.

`power`: an object with spend(), which says how many eighths of the operation happen, and raises
PowerCut where that is not all of it.
"""

import binascii
import hashlib

SECTOR = 4096
NEW, PENDING, VALID, INVALID, ABORTED = range(5)
UNDEFINED = 0xFFFFFFFF
FACTORY, OTA_0 = 0, 0x10


class Misused(Exception):
    """The flash was asked for what it can't do."""


class NoCut:
    dead = False

    def spend(self):
        return 8

    def after(self):
        pass


def app_image(mark, payload=5000):
    """A firmware that says `mark`: an image as the chip's loader takes it, one segment, with
    checksum and SHA-256."""
    noise = b"".join(
        [hashlib.sha256(mark.encode() + bytes((n & 255,))).digest() for n in range(payload // 32)]
    )
    data = (b"mark=%s;" % mark.encode() + noise)[: payload & -4]
    image = bytearray(b"\xe9\x01\x02\x20" + bytes(19) + b"\x01")
    image += (0x3F400020).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data
    checksum = 0xEF
    for byte in data:
        checksum ^= byte
    image += bytes(15 - len(image) % 16) + bytes((checksum,))
    return bytes(image) + hashlib.sha256(image).digest()


def image_length(data):
    """Of the image at the beginning of `data`; 0 when the loader would refuse it."""
    if data[0] != 0xE9 or not 0 < data[1] <= 16:
        return 0
    at, checksum = 24, 0xEF
    for _ in range(data[1]):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if at + size > len(data):
            return 0
        for byte in data[at : at + size]:
            checksum ^= byte
        at += size
    at += 16 - at % 16
    if data[at - 1] != checksum:
        return 0
    if data[23]:
        if hashlib.sha256(data[:at]).digest() != data[at : at + 32]:
            return 0
        at += 32
    return at


class Chip:
    """table: (label, subtype, blocks) of each app partition. rollback: as stock firmware is
    built."""

    def __init__(
        self, table=(("ota_0", OTA_0, 8), ("ota_1", OTA_0 + 1, 8)), rollback=True, encrypted=False
    ):
        self.power = NoCut()
        self.rollback = rollback
        self.parts = []
        at = 2 * SECTOR
        for label, subtype, blocks in table:
            self.parts.append((subtype, at, blocks * SECTOR, label, encrypted))
            at += blocks * SECTOR
        self.data = bytearray(b"\xff" * at)
        self.running = None
        self.log = []

    # -- flash --------------------------------------------------------------------------------

    def program(self, at, new):
        done = len(new) * self.power.spend() // 8
        self.log.append(("program", at // SECTOR))
        wanted = int.from_bytes(new[:done], "big")
        if wanted & int.from_bytes(self.data[at : at + done], "big") != wanted:
            raise Misused("a program over what was not erased")
        self.data[at : at + done] = new[:done]
        self.power.after()

    def erase(self, at, size):
        if at % SECTOR or size % SECTOR:
            raise OSError(-0x104, "ESP_ERR_INVALID_SIZE")
        for sector in range(at, at + size, SECTOR):
            done = SECTOR * self.power.spend() // 8
            self.log.append(("erase", sector // SECTOR))
            self.data[sector : sector + done] = b"\xff" * done
            self.power.after()

    def flash(self, label, image):
        """With esptool, on a bench."""
        _, at, size, _, _ = self.part(label)
        self.data[at : at + size] = b"\xff" * size
        self.data[at : at + len(image)] = image

    # -- otadata ------------------------------------------------------------------------------

    def part(self, label):
        for one in self.parts:
            if one[3] == label:
                return one

    def ota(self):
        return [one for one in self.parts if one[0] >= OTA_0]

    def entry(self, number):
        """[sequence, state, whether the CRC is right]."""
        raw = self.data[number * SECTOR : number * SECTOR + 32]
        sequence = int.from_bytes(raw[:4], "little")
        crc = int.from_bytes(raw[28:], "little")
        state = int.from_bytes(raw[24:28], "little")
        return [sequence, state, crc == binascii.crc32(raw[:4], 0xFFFFFFFF)]

    def write_entry(self, number, sequence, state):
        raw = sequence.to_bytes(4, "little")
        crc = binascii.crc32(raw, 0xFFFFFFFF).to_bytes(4, "little")
        self.erase(number * SECTOR, SECTOR)
        self.program(number * SECTOR, raw + b"\xff" * 20 + state.to_bytes(4, "little") + crc)

    def active(self):
        best = None
        for number in (0, 1):
            sequence, state, good = self.entry(number)
            if good and sequence != 0xFFFFFFFF and state not in (INVALID, ABORTED):
                if best is None or sequence > self.entry(best)[0]:
                    best = number
        return best

    def selected(self):
        """The partition that otadata names."""
        number = self.active()
        if number is None:
            for one in self.parts:
                if one[0] == FACTORY:
                    return one
            return self.ota()[0]
        return self.ota()[(self.entry(number)[0] - 1) % len(self.ota())]

    # -- what the bootloader does -------------------------------------------------------------

    def start(self):
        """The label of the partition that runs, None for a brick."""
        self.running = None
        if self.rollback:
            for number in (0, 1):
                sequence, state, _ = self.entry(number)
                if state == PENDING:
                    self.write_entry(number, sequence, ABORTED)
        blank = [
            not self.entry(number)[2] or self.entry(number)[0] == 0xFFFFFFFF for number in (0, 1)
        ]
        number = self.active()
        first = self.selected()
        if number is not None and self.rollback and self.entry(number)[1] == NEW:
            self.write_entry(number, self.entry(number)[0], PENDING)
        for one in [first] + self.parts:
            if self.image(one):
                if blank == [True, True] and one[0] >= OTA_0:
                    self.write_entry(0, one[0] - OTA_0 + 1, VALID)
                self.running = one
                return one[3]
        return None

    def image(self, one):
        _, at, size, _, _ = one
        data = bytes(self.data[at : at + size])
        return data[: image_length(data)]

    def mark(self):
        """The mark of the firmware that runs."""
        data = self.image(self.running)
        return data[data.find(b"mark=") + 5 : data.find(b";")].decode()

    # -- esp32.Partition ----------------------------------------------------------------------

    def module(self):
        """What `import esp32` gives on this chip."""
        chip = self

        class Partition:
            BOOT, RUNNING, TYPE_APP, TYPE_DATA = 0, 1, 0, 1

            def __init__(self, which):
                self._part = chip.running if which == 1 else chip.selected()

            def info(self):
                subtype, at, size, label, encrypted = self._part
                return (0, subtype, at, size, label, encrypted)

            def get_next_update(self):
                ota = sorted(chip.ota())
                if not ota:
                    raise OSError(2)
                other = Partition(1)
                other._part = (
                    ota[(ota.index(self._part) + 1) % len(ota)] if self._part in ota else ota[0]
                )
                return other

            def _place(self, block, size, offset):
                if block < 0 or block * SECTOR + offset + size > self._part[2]:
                    raise OSError(-0x104, "ESP_ERR_INVALID_SIZE")
                return self._part[1] + block * SECTOR + offset

            def readblocks(self, block, buffer, offset=0):
                at = self._place(block, len(buffer), offset)
                if chip.power.dead:
                    raise OSError(5)
                buffer[:] = chip.data[at : at + len(buffer)]

            def writeblocks(self, block, buffer, offset=None):
                at = self._place(block, len(buffer), offset or 0)
                if self._part == chip.running:
                    raise Misused("the firmware that runs is overwritten")
                if offset is None:
                    chip.erase(at, len(buffer))
                chip.program(at, bytes(buffer))

            def ioctl(self, operation, argument):
                if operation == 4:
                    return self._part[2] // SECTOR
                if operation == 5:
                    return SECTOR
                if operation == 6:
                    if self._part == chip.running:
                        raise Misused("the firmware that runs is erased")
                    chip.erase(self._place(argument, SECTOR, 0), SECTOR)
                    return 0
                return 0 if operation in (1, 2, 3) else None

            def set_boot(self):
                if not chip.image(self._part):
                    raise OSError(-0x1503, "ESP_ERR_OTA_VALIDATE_FAILED")
                if self._part[0] == FACTORY:
                    chip.erase(0, 2 * SECTOR)
                    return
                count = len(chip.ota())
                place = self._part[0] - OTA_0 + 1
                number = chip.active()
                state = NEW if chip.rollback else UNDEFINED
                if number is None:
                    chip.write_entry(0, place, state)
                    return
                sequence, i = chip.entry(number)[0], 0
                while sequence > place % count + i * count:
                    i += 1
                chip.write_entry(1 - number, place % count + i * count, state)

            @classmethod
            def mark_app_valid_cancel_rollback(cls):
                if not chip.ota():
                    raise OSError(-0x105, "ESP_ERR_NOT_FOUND")
                number = chip.active()
                if number is None:
                    raise OSError(-1, "ESP_FAIL")
                sequence, state, _ = chip.entry(number)
                if state != VALID:
                    chip.write_entry(number, sequence, VALID)

        class Module:
            pass

        Module.Partition = Partition
        return Module
