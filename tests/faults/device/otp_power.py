"""The gate over a vault on littlefs, with the power cut at every program and erase of a flash in
memory, and between any two steps besides: no attempt is ever gained.

    micropython tests/faults/device/otp_power.py [GATE]        GATE: a class of this file, Otp
    without

Prints for each scenario `NAME: STEPS steps, OPERATIONS operations, CUTS cuts, SECOND second cuts,
SHOWN attempts shown, USED attempts used`; ends with status 1 and the reason when an attempt or a
code could be used twice.
"""

import sys

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [HERE, HERE + "/../../unit/kit", HERE + "/../../../lib", ".frozen"]

import os  # noqa: E402  (the path must be set first)

from board_model import RootKey  # noqa: E402
from gate_kit import OTHER, SECRET, TERMS  # noqa: E402
from power import MOUNT, TORN, Flash  # noqa: E402
from vault_kit import Wrong  # noqa: E402
from warden.errors import StoreError  # noqa: E402
from warden.gate import codes as codes_module  # noqa: E402
from warden.gate import machine as machine_module  # noqa: E402
from warden.hal.store_file import FileStore  # noqa: E402
from warden.vault import Vault  # noqa: E402
from warden.wire import cbor  # noqa: E402

RETRIES = 3
TIME = "2026-11-22 03:00:00"


class Otp(machine_module.Otp):
    """As it is."""


class SentFirst(machine_module.Otp):
    """Wrong: the code is out before the attempt is on the flash."""

    def _submit(self, now_ms, unix_time):
        vault, self._vault = self._vault, Later(self._vault)
        super()._submit(now_ms, unix_time)
        self._vault, later = vault, self._vault
        self.wait = later.more
        if later.more and not self.out:
            vault.advance("otp_used")  # for the next code; the authority's answer comes first

    def on_validate(self, fields, now_ms):
        if self.wait:
            self._vault.advance("otp_used")
        super().on_validate(fields, now_ms)


class Later:
    """A vault that does not do at once what it is told."""

    more = 0

    def __init__(self, vault):
        self._vault = vault

    def __getattr__(self, name):
        return getattr(self._vault, name)

    def advance(self, name, to=None):
        self.more = 1

    def counter(self, name):
        return self._vault.counter(name) + (self.more if name == "otp_used" else 0)


class ForgivesAtStart(machine_module.Otp):
    """Wrong: a start counts as a success."""

    def __init__(self, terms, vault, codes, now_ms):
        if vault.counter("otp_used") > vault.counter("otp_good"):
            vault.advance("otp_good", vault.counter("otp_used"))
        super().__init__(terms, vault, codes, now_ms)


class KeepsTheCode(machine_module.Otp):
    """Wrong: the code is not used up by the commit that opens."""

    def _open(self, by, rises=None):
        super()._open(by)


class FreeSecond(machine_module.Otp):
    """Wrong: the second code of a resynchronisation is no attempt of its own."""

    def _submit(self, now_ms, unix_time):
        vault = self._vault
        if self._codes is not None and self._codes._expected:
            self._vault = Later(vault)
        super()._submit(now_ms, unix_time)
        self._vault = vault


class Thief:
    """Who stands at the device and holds its plug.

    `shown`: codes that the authority, or the device's own comparison, has seen; `opened`: code ->
    how often it opened; both over all starts. `free`: how many were shown since the last right one
    without a lock-out in between.
    """

    def __init__(self, flash, kind, offline):
        self.flash, self.kind, self.offline = flash, kind, offline
        self.shown = self.free = self.steps = self.good = 0
        self.opened = {}
        self.right = False  # a right code was shown
        self.stop = None

    def start(self, budget=None, torn=0):
        """The board starts, and the gate with it; the power goes at operation `budget`."""
        store = self.flash.restart()
        disk = self.flash.disk
        disk.operations, disk.budget, disk.torn = 0, budget, torn
        self.vault = Vault(store, RootKey())
        self.vault.open()
        good = self.vault.counter("otp_good")
        if good > self.good:
            if not self.right:
                raise Wrong("attempts were forgiven without a right code")
            self.good, self.right, self.free = good, False, 0
        terms = dict(TERMS)
        terms.update({"retries": RETRIES, "source": "hotp" if self.offline else "authority"})
        self.codes = WatchedCodes(self.vault, self) if self.offline else None
        self.now = 0
        self.otp = self.kind(terms, self.vault, self.codes, 0)
        self.locked()

    def step(self):
        """Between any two of these the plug may be pulled."""
        self.steps += 1
        if self.stop == self.steps:
            raise Pulled()

    def locked(self):
        if self.otp.lines(self.now)[0] == "Locked":
            self.free = 0
            return True
        return False

    def show(self, right):
        self.shown += 1
        self.right = self.right or right
        self.free += 1
        if self.free > RETRIES:
            raise Wrong("%d codes were shown without a lock-out" % self.free)

    def look(self, code):
        if self.otp.by:
            self.opened[code] = self.opened.get(code, 0) + 1
            if self.offline and self.opened[code] > 1:
                raise Wrong("one code opened twice")
            self.good, self.right, self.free = self.vault.counter("otp_good"), False, 0

    def attempt(self, code, right):
        """One code, all the way; False where the gate does not take any."""
        gate = self.otp
        self.trying = right
        gate.tick(self.now, True)
        self.step()
        for event, fields in self.messages():
            if event == "server_otp_request":
                answer = {"req": fields["req"], "validity": 300, "time": TIME}
                gate.on_response(answer, self.now)
                self.step()
        if self.locked():
            return False
        for key in code + b"#":
            gate.on_key(key, self.now)
            if key == 0x23:
                self.look(code)
            self.step()
        for _, fields in self.messages():
            self.show(right)  # from here on the authority has seen it
            self.step()
            valid = "true" if right else "false"
            fields = {"req": fields["req"], "isOTPValid": valid, "isTimeOut": "false"}
            fields["time"] = TIME
            gate.on_validate(fields, self.now)
            self.step()
            gate.tick(self.now, True)
            self.look(code)
            self.step()
        return not gate.by and not self.locked()

    def messages(self):
        out, self.otp.out = self.otp.out, []
        return out


class WatchedCodes(codes_module.Codes):
    """The device's own comparison, seen from outside: as soon as it runs, its time and its outcome
    are known."""

    def __init__(self, vault, thief):
        super().__init__(vault)
        self.thief = thief

    def verify(self, typed, unix_time):
        found = super().verify(typed, unix_time)
        self.thief.show(found is not None)
        self.thief.step()
        return found


class Pulled(Exception):
    """The plug, between two steps."""


def wrong_codes(thief):
    """As many as the lock-out lets through, and one more."""
    while thief.attempt(b"000000", False):
        pass


def wrong_then_right(thief):
    code = codes_module.code(SECRET, 0, 6)
    if thief.attempt(b"000000", False):
        thief.attempt(code, True)


def the_same_code(thief):
    """A code of the device's own, again and again: it opens once."""
    code = codes_module.code(SECRET, 4, 6)
    while thief.attempt(code, True):
        pass


def two_in_a_row(thief):
    """The codes of an authenticator that is far ahead: the second one opens, the first alone
    never."""
    if thief.attempt(codes_module.code(SECRET, 40, 6), False):
        thief.attempt(codes_module.code(SECRET, 41, 6), True)


# name -> (what the thief does, whether the device judges)
SCENARIOS = {
    "wrong codes": (wrong_codes, False),
    "wrong codes offline": (wrong_codes, True),
    "wrong then right": (wrong_then_right, False),
    "wrong then right offline": (wrong_then_right, True),
    "the same code offline": (the_same_code, True),
    "two in a row offline": (two_in_a_row, True),
}


def cut(thief, work, budget, torn, stop=None):
    """Start the board and do the work, with the power cut at operation `budget` or after step
    `stop`; operations that were made."""
    disk = thief.flash.disk
    thief.steps, thief.stop = 0, stop
    try:
        thief.start(budget, torn)
        work(thief)
    except (StoreError, OSError):
        if not disk.dead:
            raise
    except Pulled:
        pass
    disk.power_up()
    return disk.operations


def check_after_cut(thief, offline):
    """After the cut: what was shown was counted, what opened is used up, and the thief goes on as
    far as it gets."""
    thief.stop = None
    thief.start()
    used = thief.vault.counter("otp_used")
    if used < thief.shown:
        raise Wrong("%d attempts were shown and %d used" % (thief.shown, used))
    wrong_codes(thief)
    if offline:
        thief.start()
        thief.now = 86400000 * 2
        thief.otp.tick(thief.now, True)
        the_same_code(thief)
    return thief.shown, thief.vault.counter("otp_used")


def scenario(flash, kind, name, image):
    work, offline = SCENARIOS[name]

    def fresh(contents):
        flash.load(contents)
        return Thief(flash, kind, offline)

    clean = fresh(image)
    operations = cut(clean, work, None, 0)
    steps = clean.steps
    shown = used = cuts = second = 0
    for stop in range(1, steps + 1):
        thief = fresh(image)
        cut(thief, work, None, 0, stop)
        total = check_after_cut(thief, offline)
        shown, used, cuts = shown + total[0], used + total[1], cuts + 1
    for budget in range(operations):
        for torn in TORN:
            thief = fresh(image)
            cut(thief, work, budget, torn)
            left = flash.image()
            before = thief.shown, dict(thief.opened), thief.free, thief.good, thief.right
            total = check_after_cut(thief, offline)
            shown, used, cuts = shown + total[0], used + total[1], cuts + 1
            if torn != TORN[1]:
                continue
            # Once more, while the thief goes on where the first cut left the flash.
            for again in range(0, operations, 3):
                thief = fresh(left)
                thief.shown, opened, thief.free, thief.good, thief.right = before
                thief.opened = dict(opened)
                cut(thief, work, again, torn)
                total = check_after_cut(thief, offline)
                shown, used, second = shown + total[0], used + total[1], second + 1
    print(
        "%s: %d steps, %d operations, %d cuts, %d second cuts, %d attempts shown, %d attempts used"
        % (name, steps, operations, cuts, second, shown, used)
    )


def main(kind):
    flash = Flash(FileStore)
    os.mkdir(MOUNT + "/vault")
    vault = Vault(flash.store(), RootKey())
    vault.create()
    vault.commit({"otp": cbor.encode([SECRET, 6, 0, OTHER]), "identity": b"x" * 40})
    image = flash.image()
    for name in sorted(SCENARIOS):
        scenario(flash, kind, name, image)
    print("violations: %d" % flash.disk.violations)


if __name__ == "__main__":
    try:
        main(globals()[sys.argv[1]] if len(sys.argv) > 1 else Otp)
    except Wrong as error:
        print("wrong:", error)
        sys.exit(1)
