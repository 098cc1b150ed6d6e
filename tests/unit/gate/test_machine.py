"""The gate's rules: what opens it, what counts, what never gives an attempt back."""

from board_model import DictStore, RootKey
from gate_kit import OTHER, SECRET, TERMS
from harness import check, equal, raises
from warden.errors import StoreError
from warden.gate.codes import Codes, code
from warden.gate.machine import Otp
from warden.vault import Vault
from warden.wire import cbor

PURE = True

TIME = "2026-11-22 03:00:00"
RIGHT, WRONG = b"123456", b"654321"


class Desk:
    """A device with a person at its keypad and an authority that knows RIGHT. go() is the time."""

    def __init__(self, store=None, source="authority", step_s=0, linked=True, **terms):
        self.store = DictStore() if store is None else store
        self.terms = dict(TERMS)
        self.terms.update(terms)
        self.terms["source"] = source
        self.step_s = step_s
        self.now = 0
        self.linked = linked
        self.unix = None
        if store is None:
            vault = Vault(self.store, RootKey())
            vault.create()
            vault.commit({"otp": cbor.encode([SECRET, 6, step_s, OTHER])})
        self.boot()

    def boot(self):
        """The power comes: all that is left is on the flash."""
        self.vault = Vault(self.store, RootKey())
        self.vault.open()
        self.now = 0
        codes = None
        if self.terms["source"] != "authority":
            codes = Codes(self.vault, self.terms["duress"])
        self.otp = Otp(self.terms, self.vault, codes, 0)
        self.otp.tick(0, self.linked)
        return self

    def go(self, seconds):
        # In steps, as the gate does it.
        for _ in range(8):
            self.now += seconds * 125
            self.otp.tick(self.now, self.linked)

    def type(self, keys):
        for key in keys:
            self.otp.on_key(key, self.now, self.unix)

    def sent(self):
        """What went out since: (event, fields)."""
        out, self.otp.out = self.otp.out, []
        return out

    def incidents(self):
        told, self.otp.incidents = self.otp.incidents, []
        return told

    def lines(self):
        lines = self.otp.lines(self.now)
        for line in lines:
            check(len(line) <= 16, line)
        return lines

    def asked(self):
        """The request that went out; the display waits."""
        [(event, fields)] = self.sent()
        equal(event, "server_otp_request")
        equal(sorted(fields), ["req"])
        equal(len(fields["req"]), 32)
        return fields["req"]

    def answer(self, req, validity=300, **changes):
        fields = {"req": req, "validity": validity, "time": TIME}
        fields.update(changes)
        self.otp.on_response(fields, self.now)

    def validate(self, req, valid="true", late="false", **changes):
        fields = {"req": req, "isOTPValid": valid, "isTimeOut": late, "time": TIME}
        fields.update(changes)
        self.otp.on_validate(fields, self.now)
        self.otp.tick(self.now, self.linked)  # a message wakes the gate's task

    def ready(self):
        """A code was made; the request's number."""
        req = self.asked()
        self.answer(req)
        return req

    def attempt(self, req, keys=RIGHT):
        """Typed and sent; nothing else went out."""
        self.type(keys + b"#")
        [(event, fields)] = self.sent()
        equal((event, fields), ("device_otp_response", {"req": req, "otp": keys.decode()}))

    def counters(self):
        return self.vault.counter("otp_used"), self.vault.counter("otp_good")


def test_request_entry_and_success():
    desk = Desk()
    req = desk.asked()
    equal(desk.lines(), ("Code is made", "wait"))
    desk.answer(req)
    equal(desk.lines(), ("Code? 5 min", ""))
    desk.attempt(req)
    equal(desk.lines(), ("Checking", ""))
    equal((desk.otp.by, desk.counters()), ("", (1, 0)))
    desk.validate(req)
    equal((desk.otp.by, desk.counters(), desk.incidents()), ("otp", (1, 1), []))
    equal(desk.lines(), ("Open", ""))
    # Over: nothing comes after it.
    desk.type(RIGHT + b"#")
    desk.go(3600)
    equal((desk.sent(), desk.incidents(), desk.counters()), ([], [], (1, 1)))


def test_a_right_code_opens_at_the_next_tick():
    """Its commit is not where the message is received: little of the C stack is left there."""
    desk = Desk()
    req = desk.ready()
    desk.attempt(req)
    fields = {"req": req, "isOTPValid": "true", "isTimeOut": "false", "time": TIME}
    desk.otp.on_validate(fields, desk.now)
    equal((desk.otp.by, desk.counters(), desk.lines()), ("", (1, 0), ("Checking", "")))
    raises("unexpected", desk.otp.on_validate, fields, desk.now)
    desk.type(RIGHT + b"#")
    equal((desk.sent(), desk.counters()), ([], (1, 0)))
    desk.otp.tick(desk.now, False)
    equal((desk.otp.by, desk.counters(), desk.lines()), ("otp", (1, 1), ("Open", "")))


def test_the_request_waits_for_a_link():
    desk = Desk(linked=False)
    desk.go(100)
    equal((desk.sent(), desk.lines()), ([], ("Wait", "No connection")))
    desk.linked = True
    desk.go(1)
    desk.asked()


def test_every_request_has_its_own_number():
    reqs = {Desk().asked() for _ in range(20)}
    equal(len(reqs), 20)


def test_entry():
    desk = Desk()
    req = desk.ready()
    desk.type(b"12")
    equal(desk.lines()[1], "**")
    # Letters and other keys do nothing, whatever code they come with.
    desk.type(b"ABCD abc\x00\xff+-/:")
    desk.otp.on_key(0x661, desk.now)
    desk.otp.on_key(-1, desk.now)
    equal(desk.lines()[1], "**")
    desk.type(b"*")
    equal(desk.lines()[1], "")
    desk.type(b"0" * 1000)
    equal(len(desk.otp._entry), 7)  # one too many is enough to know
    desk.type(b"*")
    # Too few, none, too many: refused here, and no attempt.
    for keys in (b"#", b"12345#", b"1234567#", b"0" * 1000 + b"#"):
        desk.type(keys)
        equal((desk.sent(), desk.counters()), ([], (0, 0)))
        equal(desk.lines()[1], "6 digits, then #")
    desk.attempt(req)


def test_what_was_typed_is_never_shown():
    desk = Desk(digits=10)
    desk.ready()
    for typed in range(1, 12):
        desk.type(b"7")
        equal(desk.lines()[1], "*" * typed)
        check("7" not in "".join(desk.lines()))


def test_an_unfinished_entry_is_cleared():
    desk = Desk(idle_s=60)
    desk.ready()
    desk.type(b"123")
    desk.go(59)
    equal(desk.lines()[1], "***")
    desk.type(b"4")
    desk.go(59)
    equal(desk.lines()[1], "****")
    desk.go(1)
    equal((desk.lines()[1], desk.counters()), ("", (0, 0)))


def test_an_expired_code():
    desk = Desk()
    req = desk.ready()
    desk.go(299)
    desk.type(b"1")
    desk.go(2)
    equal((desk.lines(), desk.sent()), (("Press a key", "Code expired"), []))
    desk.go(3600)
    equal(desk.sent(), [])
    # Somebody comes: a new code, and the old number is worth nothing.
    desk.type(b"5")
    desk.go(1)
    new = desk.asked()
    check(new != req)
    raises("unexpected", desk.answer, req)
    desk.answer(new)
    equal(desk.lines()[1], "")


def test_an_entry_ends_with_its_code():
    desk = Desk(validity_s=30, idle_s=600)
    desk.ready()
    desk.type(b"12")
    desk.go(30)
    desk.type(b"5")
    desk.go(31)
    desk.ready()
    equal(desk.lines()[1], "")


def test_an_expired_code_is_not_sent():
    """Whatever happens between two looks at the clock."""
    desk = Desk()
    desk.ready()
    desk.type(RIGHT)
    desk.now += 300000
    desk.type(b"#")
    equal((desk.sent(), desk.counters()), ([], (0, 0)))
    equal(desk.lines(), ("Press a key", "Code expired"))


def test_the_shorter_validity_counts():
    for given, own, lasts in ((1, 300, 1), (30, 300, 30), (300, 30, 30), (3600, 3600, 3600)):
        desk = Desk(validity_s=own, idle_s=600)
        desk.answer(desk.asked(), validity=given)
        desk.go(lasts - 1)
        check(desk.lines()[0] != "Press a key")
        desk.go(1)
        equal(desk.lines()[0], "Press a key")


def test_wrong_codes():
    desk = Desk(retries=3)
    req = desk.ready()
    for count in (1, 2):
        desk.attempt(req, WRONG)
        desk.validate(req, "false")
        equal((desk.incidents(), desk.counters()), ([("otp-wrong", 1)], (count, 0)))
        equal(desk.lines()[1], "Wrong code")
        desk.type(b"1")
        equal(desk.lines()[1], "*")
        desk.type(b"*")
    # The same code may be tried again; the right one still opens.
    desk.attempt(req)
    desk.validate(req)
    equal((desk.otp.by, desk.counters()), ("otp", (3, 3)))


def test_lock_out():
    desk = Desk(retries=3)
    req = desk.ready()
    for _ in range(3):
        desk.attempt(req, WRONG)
        desk.validate(req, "false")
    equal(desk.incidents()[-2:], [("otp-wrong", 1), ("otp-locked", 3)])
    equal(desk.lines(), ("Locked", "1 min"))
    # Nothing is asked, taken or sent.
    desk.type(RIGHT + b"#*#")
    raises("unexpected", desk.validate, req)
    raises("unexpected", desk.answer, req)
    equal((desk.sent(), desk.counters(), desk.otp.by), ([], (3, 0), ""))
    desk.go(59)
    equal(desk.lines()[0], "Locked")
    desk.go(2)
    equal((desk.lines(), desk.sent()), (("Press a key", ""), []))
    desk.type(b"1")
    desk.go(1)
    req = desk.ready()
    for _ in range(3):
        desk.attempt(req, WRONG)
        desk.validate(req, "false")
    equal(desk.incidents()[-1], ("otp-locked", 6))
    # Twice as long.
    equal(desk.lines(), ("Locked", "2 min"))
    desk.go(119)
    equal(desk.lines()[0], "Locked")
    desk.go(2)
    equal(desk.lines()[0], "Press a key")


def locked_for(desk):
    """Seconds until the lock-out of this start is over."""
    for waited in range(0, 90000, 10):
        if desk.lines()[0] != "Locked":
            return waited
        desk.now += 10000
        desk.otp.tick(desk.now, True)
    return None


def test_the_delay_grows_to_a_day():
    desk = Desk(retries=1, lock_s=60)
    expected = 60
    for level in range(1, 14):
        desk.vault.advance("otp_used")
        equal(locked_for(desk.boot()), min(expected, 86400), level)
        expected *= 2
    desk.vault.advance("otp_used", 1 << 31)
    equal(locked_for(desk.boot()), 86400)


def test_each_start_waits_the_whole_delay():
    desk = Desk(retries=3, lock_s=60)
    desk.vault.advance("otp_used", 3)
    for served in (0, 30, 58):
        desk.boot()
        equal(desk.incidents(), [("otp-locked", 3)])
        desk.go(served)
        equal((desk.lines()[0], desk.sent()), ("Locked", []))
    # Served, then one attempt of the next three: the next start serves it again, and two are left.
    desk.go(4)
    equal((desk.lines(), desk.sent()), (("Press a key", ""), []))
    desk.type(b"1")
    desk.go(1)
    desk.attempt(desk.ready(), WRONG)
    desk.boot()
    equal((locked_for(desk), desk.counters()), (60, (4, 0)))


def test_a_success_resets_the_failures():
    desk = Desk(retries=3)
    req = desk.ready()
    for _ in range(2):
        desk.attempt(req, WRONG)
        desk.validate(req, "false")
    desk.attempt(req)
    desk.validate(req)
    desk.boot()
    equal(desk.lines()[0], "Code is made")
    req = desk.ready()
    for _ in range(2):
        desk.attempt(req, WRONG)
        desk.validate(req, "false")
    equal(desk.lines()[1], "Wrong code")


def test_an_attempt_without_an_answer_counts():
    desk = Desk()
    req = desk.ready()
    desk.attempt(req, WRONG)
    desk.type(b"123456#*")  # no key while it is being checked
    equal(desk.sent(), [])
    desk.go(29)
    equal(desk.lines(), ("Checking", ""))
    desk.go(1)
    equal((desk.lines()[1], desk.counters()), ("No answer", (1, 0)))
    # Its answer, when it comes now, answers nothing.
    raises("unexpected", desk.validate, req)
    equal(desk.otp.by, "")
    desk.attempt(req)
    equal(desk.counters(), (2, 0))
    desk.validate(req)
    equal((desk.otp.by, desk.counters()), ("otp", (2, 2)))


def test_unanswered_attempts_lock_out_as_well():
    """Whoever holds the answers back gains no attempt."""
    desk = Desk(retries=2)
    req = desk.ready()
    for _ in range(2):
        equal(desk.lines()[0], "Code? 5 min")
        desk.attempt(req, WRONG)
        desk.go(31)
    equal((desk.lines()[0], desk.incidents()), ("Locked", [("otp-locked", 2)]))
    desk.boot()
    equal(desk.lines()[0], "Locked")


def test_nothing_is_sent_without_a_link():
    desk = Desk()
    req = desk.ready()
    desk.linked = False
    desk.go(1)
    desk.type(RIGHT + b"#")
    equal((desk.sent(), desk.counters(), desk.lines()[1]), ([], (0, 0), "No connection"))
    desk.linked = True
    desk.go(1)
    desk.attempt(req)


def test_a_request_that_is_lost():
    desk = Desk()
    req = desk.asked()
    for _ in range(3):
        desk.go(31)
        equal(desk.asked(), req)  # no second code at the owner
    desk.go(31)
    desk.go(1)
    check(desk.asked() != req)


def test_no_flood_of_requests():
    """Keys make no more than one request a minute."""
    desk = Desk(validity_s=30)
    count = 0
    for _ in range(60):
        desk.go(10)
        desk.type(b"1#*")
        for event, fields in desk.sent():
            equal(event, "server_otp_request")
            count += 1
            desk.answer(fields["req"])
    check(5 <= count <= 11, count)


def test_answers_to_another_request():
    desk = Desk()
    req = desk.asked()
    other = Desk().asked()
    for wrong in (
        other,
        "",
        req[:-1],
        req.upper() if req.upper() != req else "x",
        "0" * 32,
        "\xe4" * 16,
    ):
        raises("unexpected", desk.answer, wrong)
    raises("unexpected", desk.validate, req)  # nothing was typed yet
    for wrong in (None, 1, b"", [req]):
        raises("bad-body", desk.answer, wrong)
    desk.answer(req)
    raises("unexpected", desk.answer, req)  # replayed: it would make the code live for ever
    raises("unexpected", desk.validate, req)
    desk.attempt(req)
    raises("unexpected", desk.answer, req)
    raises("unexpected", desk.validate, other)
    desk.validate(req, "false")
    raises("unexpected", desk.validate, req)  # the second answer to one attempt
    equal((desk.otp.by, desk.counters()), ("", (1, 0)))
    desk.attempt(req)
    desk.validate(req)
    raises("unexpected", desk.validate, req)
    raises("unexpected", desk.answer, req)


def test_answers_of_another_form():
    desk = Desk()
    req = desk.asked()
    for changes in (
        {"validity": 0},
        {"validity": -1},
        {"validity": 3601},
        {"validity": True},
        {"validity": 300.0},
        {"validity": "300"},
        {"validity": None},
        {"time": None},
        {"time": 0},
        {"time": ""},
        {"time": TIME + "Z"},
        {"time": TIME[:-1]},
        {"time": "2026-11-22T03:00:00"},
        {"time": "x" * 19},
        {"time": "\xe4" * 19},
    ):
        raises("bad-body", lambda changes=changes: desk.answer(req, **changes))
    desk.answer(req)
    desk.attempt(req)
    for valid, late in (
        ("true", "true"),
        (True, "false"),
        ("true", False),
        ("True", "false"),
        ("yes", "false"),
        ("", ""),
        (None, None),
        (1, 0),
        (b"true", b"false"),
        (["true"], "false"),
    ):
        raises("bad-body", desk.validate, req, valid, late)
    raises("bad-body", lambda: desk.validate(req, time="now"))
    equal((desk.otp.by, desk.counters()), ("", (1, 0)))
    desk.validate(req)
    equal(desk.otp.by, "otp")


def test_an_expired_answer_asks_for_a_new_code():
    desk = Desk()
    req = desk.ready()
    desk.attempt(req)
    desk.validate(req, "false", "true")
    equal((desk.lines(), desk.counters()), (("Press a key", "Code expired"), (1, 0)))
    raises("unexpected", desk.answer, req)


def test_the_flash_fails():
    """No attempt that was not counted."""
    desk = Desk()
    desk.ready()
    read = desk.store.read
    desk.store.read = lambda name, limit: None if name == "commit" else read(name, limit)
    raises("vault-unwritten", desk.type, RIGHT + b"#")
    equal(desk.sent(), [])


def test_unlock():
    desk = Desk(retries=1)
    desk.attempt(desk.ready(), WRONG)
    desk.boot()
    equal(desk.lines()[0], "Locked")
    desk.otp.unlock()
    equal((desk.otp.by, desk.counters()), ("unlock", (1, 1)))
    desk = Desk(unlock=False)
    raises("not-allowed", desk.otp.unlock)
    equal(desk.otp.by, "")


def test_offline():
    desk = Desk(source="hotp", linked=False)
    equal(desk.lines(), ("Code?", ""))
    desk.type(code(SECRET, 0, 6) + b"#")
    equal(
        (desk.otp.by, desk.counters(), desk.incidents(), desk.sent()), ("offline", (1, 1), [], [])
    )
    # The same code once more; the one after it.
    desk.boot()
    desk.type(code(SECRET, 0, 6) + b"#")
    equal((desk.otp.by, desk.incidents(), desk.lines()[1]), ("", [("otp-wrong", 1)], "Wrong code"))
    desk.type(code(SECRET, 1, 6) + b"#")
    equal((desk.otp.by, desk.vault.counter("otp_step")), ("offline", 2))


def test_offline_lock_out():
    desk = Desk(source="hotp", retries=2, lock_s=10)
    for _ in range(2):
        desk.type(b"000000#")
    equal(desk.lines()[0], "Locked")
    desk.type(code(SECRET, 0, 6) + b"#")
    equal((desk.otp.by, desk.counters()), ("", (2, 0)))
    desk.go(11)
    equal(desk.lines(), ("Code?", ""))
    desk.type(code(SECRET, 0, 6) + b"#")
    equal(desk.otp.by, "offline")


def far_ahead(desk, counter, secret=SECRET):
    """One attempt; what is known of it from outside."""
    for key in code(secret, counter, 6) + b"#":
        desk.type(bytes((key,)))
    return desk.otp.by, desk.lines(), desk.incidents(), desk.counters()


def test_resynchronisation():
    """An authenticator that is 40 codes ahead: two in a row open, each of them an attempt."""
    desk = Desk(source="hotp")
    desk.type(b"000000#")
    wrong = desk.otp.by, desk.lines(), desk.incidents()
    desk = Desk(source="hotp")
    # The first looks like any wrong one: it must not show which codes are valid later.
    first = far_ahead(desk, 40)
    equal((first[:3], first[3]), (wrong, (1, 0)))
    equal(far_ahead(desk, 41), ("offline", ("Open", ""), [], (2, 2)))
    equal(desk.vault.counter("otp_step"), 42)
    # Both are used up.
    for counter in (40, 41):
        desk.boot()
        equal(far_ahead(desk, counter)[0], "")
    equal(far_ahead(desk.boot(), 42)[0], "offline")


def test_resynchronisation_under_duress():
    desk = Desk(source="hotp", duress=True)
    equal(far_ahead(desk, 40, OTHER)[2], [("otp-wrong", 1)])
    equal(far_ahead(desk, 41, OTHER), ("offline", ("Open", ""), [("duress", 1)], (2, 2)))


def test_resynchronisation_gains_no_attempt():
    desk = Desk(source="hotp", retries=2, lock_s=10)
    far_ahead(desk, 40)
    desk.boot()  # the power went between the two
    far_ahead(desk, 41)
    equal((desk.counters(), desk.lines()[0]), ((2, 0), "Locked"))
    by, _, told, counters = far_ahead(desk, 42)  # no key counts now
    equal((by, told, counters), ("", [], (2, 0)))
    # A lock-out that was served between the two is no reason to begin again.
    desk.go(11)
    equal(far_ahead(desk, 42), ("offline", ("Open", ""), [], (3, 3)))


def test_messages_open_nothing_where_the_device_verifies():
    desk = Desk(source="hotp")
    for req in ("", "0" * 32):
        raises("unexpected", desk.answer, req)
        raises("unexpected", desk.validate, req)
    equal(desk.otp.by, "")


def test_totp_needs_a_time():
    desk = Desk(source="totp", step_s=30)
    desk.type(code(SECRET, 0, 6) + b"#")
    equal((desk.otp.by, desk.counters(), desk.lines()[1]), ("", (0, 0), "No time yet"))
    desk.unix = 1800000000
    desk.type(code(SECRET, 60000000, 6) + b"#")
    equal((desk.otp.by, desk.vault.counter("otp_step")), ("offline", 60000001))
    # The clock goes back by an hour: what was used stays used, what lies before it too.
    desk.boot()
    for unix in (1800000000, 1800000000 - 30, 1800000000 - 3600):
        desk.unix = unix
        desk.type(code(SECRET, unix // 30, 6) + b"#")
        equal(desk.otp.by, "")
        desk.go(10000)


def test_duress():
    """It opens, and whoever watches sees and hears no difference."""
    seen = []
    for secret in (SECRET, OTHER):
        desk = Desk(source="hotp", duress=True)
        desk.store.log.clear()
        lines = []
        for key in code(secret, 0, 6) + b"#":
            desk.type(bytes((key,)))
            lines.append(desk.lines())
        what = [(action, name.split(".")[0]) for action, name in desk.store.log]
        seen.append((lines, desk.otp.by, desk.counters(), desk.sent(), what))
        equal(desk.incidents(), [("duress", 1)] if secret is OTHER else [])
    equal(seen[0], seen[1])
    desk = Desk(source="hotp", duress=False)
    desk.type(code(OTHER, 0, 6) + b"#")
    equal((desk.otp.by, desk.incidents()), ("", [("otp-wrong", 1)]))


def test_a_vault_without_secrets():
    desk = Desk()
    desk.vault.delete("otp")
    check(isinstance(raises("not-provisioned", Codes, desk.vault), StoreError))


def test_memory_of_what_was_typed_is_wiped():
    desk = Desk()
    req = desk.ready()
    for end in (b"*", b"#"):
        desk.type(RIGHT)
        entry = desk.otp._entry
        desk.type(end)
        equal(entry, bytes(6))
    desk.validate(req)
    desk = Desk(idle_s=5)
    desk.ready()
    desk.type(b"123")
    entry = desk.otp._entry
    desk.go(6)
    equal(entry, bytes(3))
