"""The order that sets the clock: refusals, the one commit, each power cut, codes by time."""

import asyncio

from agent_kit import FLOOR, NOW, Rig, provisioned
from board_model import DictStore, PowerCut, RootKey
from gate_kit import OTHER, SECRET
from harness import check, equal, raises
from test_bundle import good
from test_pins_file import VENDOR, signed, verifiers
from warden.agent import clock_order
from warden.errors import LinkError, PeerError, WardenError
from warden.gate.codes import Codes, code
from warden.net.clock import Clock
from warden.ota import update
from warden.vault import Vault, records
from warden.wire import cbor

update.verifiers = verifiers  # those of test_pins_file


def run(agent, args):
    return clock_order.run(agent, "warden_clock", args)


YEAR = 365 * 86400
FALSE = NOW + 8 * YEAR
SID = b"session1"
STEP_S = 30


class Up:
    authority, up, appid, sid = True, True, "authority", SID


class Outbox:
    pass


def board(store=None, release=True, mark=FALSE):
    """A device that was taught the time `mark`."""
    bundle = good()
    bundle.pop("release", None)
    if release:
        bundle["release"] = [VENDOR, b"c" * 16, [b"R" * 64, b"P" * 64]]
    rig = Rig(provisioned(bundle, store))
    rig.agent.vault.advance("time", mark)
    rig.agent.sessions = [Up]
    rig.clock.set = lambda unix_time: setattr(rig.clock, "time", unix_time) or True
    return rig


def order(time=NOW, device="lamp-1", sid=SID, vendor=VENDOR, label="warden clock", form=1):
    return cbor.encode([label, form, vendor, device, sid, time])


def args(payload, key=b"P" * 32):
    payload, signature = cbor.decode(signed(payload, key))
    return {"order": payload, "signature": signature}


def mark(vault):
    """Return the clock's mark after a restart, and the vault."""
    again = Vault(vault.store, RootKey())
    again.open()
    clock = Clock(None, again, FLOOR, records.clock_shift(again))
    return clock.least(), again


def test_back_and_forward():
    rig = board()
    equal(run(rig.agent, {}), {"session": SID, "mark": FALSE, "now": NOW, "floor": FLOOR})
    for told in (NOW, NOW + 5, NOW + YEAR, NOW + 10, FALSE + YEAR, NOW + 20):
        equal(run(rig.agent, args(order(told)))["time"], told)
        equal((mark(rig.agent.vault)[0], rig.clock.time), (told, told))
        equal(rig.agent.clock.least(), told)  # a welcome may come before the restart
    equal(rig.agent.vault.counter("time"), FALSE + YEAR)  # no later than any of them
    check(rig.agent.after_reply is not None)
    rig.agent.delivery = Outbox
    Outbox.save_at_end = lambda: rig.agent.vault.put("outbox0", b"events")
    asyncio.run(rig.agent.after_reply(rig.agent))
    equal(rig.restarts, 1)  # the session of the order ends, and with it the order
    equal(mark(rig.agent.vault)[1].get("outbox0"), b"events")  # what waits is saved before


def test_a_welcome_just_before_moves_nothing_behind_the_order():
    class Dates:
        not_before, not_after = 0, 1 << 40

    for told in (FALSE + 86400, FALSE + YEAR):
        rig = board()
        check(rig.agent.clock.prove(told, Dates, 0))
        run(rig.agent, args(order()))
        rig.agent.clock.keep_mark()  # as by its own task
        equal(mark(rig.agent.vault)[0], NOW)


def test_no_order_uses_the_counter_up():
    last = (1 << 32) - 1
    rig = board(mark=last)
    for told in (NOW, last, NOW, NOW + YEAR, last - 1, NOW + 5):
        equal(run(rig.agent, args(order(told)))["time"], told)
        equal(mark(rig.agent.vault)[0], told)


def test_what_is_refused():
    rig = board()
    generation = rig.agent.vault.generation
    data = args(order())
    for what, bad in (
        ("bad-body", {"order": data["order"]}),
        ("bad-body", {"order": "", "signature": data["signature"]}),
        ("bad-body", {"order": bytes(257), "signature": data["signature"]}),
        ("bad-body", {"order": data["order"], "signature": bytes(641)}),
        ("bad-body", dict(list(data.items()) + [("more", 1)])),
        ("cose-malformed", {"order": data["order"], "signature": b"\x83"}),
        ("tampered", args(order(), b"X" * 32)),
        ("tampered", {"order": order(NOW + 1), "signature": data["signature"]}),
        ("cbor-malformed", args(b"\x86")),
        ("bad-body", args(b"\x00")),
        ("bad-body", args(order(label="warden pins"))),
        ("bad-body", args(order(form=2))),
        ("bad-body", args(b"\x87" + order()[1:] + b"\0")),
        ("bad-body", args(cbor.encode(cbor.decode(order())[:5]))),
        ("wrong-device", args(order(vendor=b"w" * 16))),
        ("wrong-device", args(order(device="lamp-2"))),
        ("old-session", args(order(sid=b"session0"))),
        ("bad-body", args(order(FLOOR - 1))),
        ("bad-body", args(order(1 << 32))),
        ("bad-body", args(order(True))),
    ):
        error = raises(what, run, rig.agent, bad)
        check(isinstance(error, PeerError))
        equal([one["code"] for one in rig.incidents()], [what])
    without = board(release=False)
    raises("not-allowed", run, without.agent, data)
    rig.agent.sessions = []
    raises("old-session", run, rig.agent, data)
    equal(rig.agent.vault.generation, generation)


def test_a_time_ahead_of_one_that_was_proven_is_told():
    rig = Rig(provisioned())

    class Link:
        class verifier:
            not_before, not_after = 0, 1 << 40

    rig.agent.link = Link
    rig.agent.on_time(NOW)
    rig.agent.on_time(NOW + 2 * 3600 + 60)
    equal([(one["code"], one["at"]) for one in rig.incidents()], [("time-ahead", "welcome")])
    rig.agent.on_time(NOW + 3600)
    equal(rig.incidents(), [])


def test_nothing_with_a_deadline_is_pending():
    for name in ("rotation", "network_new", "policy_new", "token_new"):
        rig = board()
        rig.agent.vault.put(name, b"")
        check(isinstance(raises("busy", run, rig.agent, args(order())), LinkError))


def test_what_was_timed_by_the_false_clock_goes():
    rig = board()
    rig.agent.vault.commit({"token_now": b"t", "development": b"d"})
    run(rig.agent, args(order()))
    check(not {"token_now", "development"} & set(rig.agent.vault.names()))


# -- codes by time ----------------------------------------------------------------------------


def with_codes(steps, far=(), since=(), told=NOW):
    """Give the order to a device with these counters; return (its vault, the reply's `codes`).

    far, since: of the record `clock`, each from the mark before it.
    """
    rig = board()
    vault = rig.agent.vault
    changes = {"otp": cbor.encode([SECRET, 6, STEP_S, OTHER])}
    if far or since:
        waiting = list(far) + list(far[1:])
        changes["clock"] = cbor.encode([1, 0, waiting, [list(one) for one in since]])
    vault.commit(changes, steps)
    codes = run(rig.agent, args(order(told)))["codes"]
    return mark(vault)[1], codes


def opens(vault, unix_time, secret=SECRET, use=False):
    """Type the code of a time at that time; return the counter that it moves, or None."""
    found = Codes(vault).verify(code(secret, unix_time // STEP_S, 6), unix_time)
    if use and found:
        vault.advance(*found)
    return found and found[0]


def test_codes_that_were_not_used_ahead_of_time_go_on():
    used = NOW // STEP_S - 5
    vault, codes = with_codes({"otp_step": used})
    equal((codes, "otp_clock" in vault.names()), ((NOW // STEP_S + 2) * STEP_S, False))
    equal(opens(vault, NOW), "otp_step")


def test_codes_that_were_used_in_the_false_time_are_never_taken_again():
    first, last = FALSE // STEP_S, (FALSE + 50 * 86400) // STEP_S
    vault, codes = with_codes({"otp_step": last + 1, "otp_duress": 5}, (NOW, FALSE))
    equal(codes, (NOW // STEP_S + 2) * STEP_S)
    # Those of before, which may have been used, and the first one that can't have been.
    for early in (NOW - 86400, NOW, NOW + STEP_S):
        equal(opens(vault, early), None)
    equal(opens(vault, codes, use=True), "otp_step")
    for used in (codes, codes - STEP_S):
        equal(opens(vault, used), None)
    equal(opens(vault, NOW, OTHER), "otp_duress")
    # Years later: what was shown while the time was false stays refused; what lies around, not.
    for step in (first - 1, first, last - 100, last):
        equal(opens(vault, step * STEP_S), None)
    equal(opens(vault, (first - 2) * STEP_S), "otp_step")
    equal(opens(vault, (last + 1) * STEP_S, use=True), "otp_step")
    equal(opens(vault, (last + 1) * STEP_S), None)


def test_where_the_false_time_began_is_not_known():
    """Then no step is given free: a used one might be among them."""
    for far, since in (
        ((), ()),
        ((NOW - 9, NOW - 5), ((NOW - YEAR - 9, NOW - YEAR),)),
        # The mark was later than the order's time: a true step, or codes in between were used.
        ((NOW + 1, FALSE), ()),
        ((), ((NOW + 1, FALSE - YEAR), (FALSE - YEAR, FALSE))),
        # The used step lies before the false time that is known: there was another one.
        ((NOW - 9, FALSE + YEAR), ()),
    ):
        last = FALSE // STEP_S
        vault, codes = with_codes({"otp_step": last + 1}, far, since)
        equal(codes, (last + 1) * STEP_S)
        for step in (NOW // STEP_S + 2, last):
            equal(opens(vault, step * STEP_S), None)
        equal(opens(vault, codes), "otp_step")


def test_of_several_false_times_the_first_one_counts():
    rig_vault, _ = with_codes(
        {"otp_step": (FALSE + YEAR) // STEP_S},
        (FALSE + 9, FALSE + YEAR),
        ((NOW - 2 * YEAR, NOW - YEAR), (NOW, FALSE)),
    )
    for time in (FALSE, FALSE + YEAR // 2):
        equal(opens(rig_vault, time), None)
    equal(opens(rig_vault, FALSE - 3600), "otp_step")


def test_ranges_of_many_orders_are_joined():
    rig = board()
    vault = rig.agent.vault
    vault.put("otp", cbor.encode([SECRET, 6, STEP_S, None]))
    now = NOW
    for number in range(6):
        ahead = now + (number + 1) * YEAR
        shift = records.load(vault, "otp_clock")[1]["otp_step"][0] if number else 0
        clock_shift = records.clock_shift(vault)
        vault.commit(
            {"clock": cbor.encode([1, clock_shift, [now, ahead, ahead], []])},
            {"otp_step": ahead // STEP_S + 1 + shift},
        )
        now += 60
        run(rig.agent, args(order(now)))
        ranges = records.load(vault, "otp_clock")[1]["otp_step"][1]
        check(1 <= len(ranges) <= 4)
        for earlier in range(number + 1):
            equal(opens(vault, NOW + earlier * 60 + (earlier + 1) * YEAR), None)


def test_a_cut_leaves_the_old_clock_or_the_new_one():
    first = board()
    first.agent.vault.commit(
        {
            "otp": cbor.encode([SECRET, 6, STEP_S, None]),
            "clock": cbor.encode([1, 0, [NOW, FALSE, FALSE], []]),
            "token_now": b"t",
        },
        {"otp_step": FALSE // STEP_S + 9},
    )
    files, found = first.agent.vault.store.files, []
    for budget in range(1000):
        store = DictStore(files)
        vault = Vault(store, RootKey())
        vault.open()
        rig = Rig(vault)
        rig.agent.sessions = [Up]
        store.budget = budget
        done = False
        try:
            run(rig.agent, args(order()))
            done = True
        except (PowerCut, WardenError):
            pass
        store.budget = None
        least, again = mark(vault)
        new = least == NOW
        found.append(new)
        check(new or least == FALSE)
        equal("token_now" in again.names(), not new)
        equal("otp_clock" in again.names(), new)
        # A code of the false time opens nothing on either side of the cut, a fresh one the new.
        equal(opens(again, FALSE), None)
        equal(opens(again, NOW + 90), "otp_step" if new else None)
        if done:
            break
    equal(found, sorted(found))
    check(found[-1] and not found[0])
