"""Plain mode: the application's ID, asked for and compared."""

import binascii
import json

from board_model import DictStore, RootKey
from harness import check, equal, raises
from warden.errors import PeerError
from warden.session.plain import Plain
from warden.vault import Vault
from warden.wire.names import Topics

PURE = True

UID = bytes(range(200, 232))
HEX = binascii.hexlify(UID).decode()
OTHER = "ab" * 32


def vault_with(store=None):
    vault = Vault(store or DictStore(), RootKey())
    vault.create()
    vault.commit({})
    return vault


def made(appids=("home",), validate=True, store=True, vault=None):
    return Plain(Topics("lamp", "lamp-1"), list(appids), vault or vault_with(), validate, store)


def asked(plain, now=0):
    """The requests of now, parsed, by application."""
    return {f["appid"]: f for f in [json.loads(data) for data in plain.requests(now)]}


def knowing(**options):
    """A Plain that has been told home's ID."""
    plain = made(**options)
    if options.get("validate", True):
        req = asked(plain)["home"]["req"]
        plain.on_response({"appid": "home", "uid": HEX, "req": req}, 10)
    return plain


def command(**changes):
    fields = {"cmd": "blink", "appid": "home", "uid": HEX, "id": 7, "args": {"n": 1}}
    fields.update(changes)
    return fields


def refused(code, function, *arguments):
    check(isinstance(raises(code, function, *arguments), PeerError))


# -- asking -----------------------------------------------------------------------------------


def test_what_is_asked():
    plain = made(("home", "office"))
    check(not plain.ready)
    equal(plain.due_ms(), 0)
    requests = asked(plain, 100)
    equal(sorted(requests), ["home", "office"])
    for fields in requests.values():
        equal(sorted(fields), ["appid", "deviceId", "event", "req"])
        equal(
            (fields["event"], fields["deviceId"], len(fields["req"])),
            ("server_uid_request", "lamp-1", 32),
        )
        equal(binascii.hexlify(binascii.unhexlify(fields["req"])).decode(), fields["req"])
    check(requests["home"]["req"] != requests["office"]["req"])


def test_asked_again_after_thirty_seconds_with_another_req():
    plain = made()
    first = asked(plain, 100)["home"]["req"]
    equal((asked(plain, 30099), plain.due_ms()), ({}, 30100))
    second = asked(plain, 30100)["home"]["req"]
    check(first != second)
    # The first one's answer is too late now, even though another is awaited.
    refused("unexpected", plain.on_response, {"appid": "home", "uid": HEX, "req": first}, 30101)
    plain.on_response({"appid": "home", "uid": HEX, "req": second}, 30101)
    equal((plain.ready, plain.due_ms(), asked(plain, 99999)), (True, None, {}))


def test_ready_only_when_all_are_known():
    plain = made(("home", "office"))
    requests = asked(plain)
    plain.on_response({"appid": "home", "uid": HEX, "req": requests["home"]["req"]}, 1)
    check(not plain.ready)
    equal(plain.due_ms(), 30000)
    plain.on_response({"appid": "office", "uid": OTHER, "req": requests["office"]["req"]}, 1)
    check(plain.ready)
    # Each has its own.
    refused("wrong-application", plain.open, "blink", command(appid="office"))
    equal(plain.open("blink", command(appid="office", uid=OTHER))[0], "office")


def test_without_validation_nothing_is_asked():
    plain = made(validate=False)
    equal((plain.ready, asked(plain), plain.due_ms()), (True, {}, None))
    refused("unexpected", plain.on_response, {"appid": "home", "uid": HEX, "req": "00" * 16}, 0)


# -- answers ----------------------------------------------------------------------------------


def answer(plain, **changes):
    fields = {"appid": "home", "uid": HEX, "req": plain_req(plain)}
    fields.update(changes)
    return fields


def plain_req(plain):
    return asked(plain)["home"]["req"]


def nothing_learned(plain):
    check(not plain.ready)
    refused("wrong-application", plain.open, "blink", command())


def test_an_answer_of_an_unknown_application():
    for appid in ("stranger", "", None, 1, ["home"], {"home": 1}, True):
        plain = made()
        refused("wrong-application", plain.on_response, answer(plain, appid=appid), 1)
        nothing_learned(plain)
    fields = answer(made())
    del fields["appid"]
    refused("wrong-application", made().on_response, fields, 1)


def test_an_answer_with_another_req():
    for bad in ("00" * 16, "", None, 7, [], "zz" * 16, "00" * 15, "00" * 17, HEX):
        plain = made()
        refused("unexpected", plain.on_response, answer(plain, req=bad), 1)
        nothing_learned(plain)
    plain = made()
    fields = answer(plain)
    refused("unexpected", plain.on_response, dict(fields, req=fields["req"].upper() + " "), 1)
    upper = fields["req"].upper()
    if upper != fields["req"]:
        refused("unexpected", plain.on_response, dict(fields, req=upper), 1)
    del fields["req"]
    refused("unexpected", plain.on_response, fields, 1)


def test_an_answer_nobody_asked_for():
    refused("unexpected", made().on_response, {"appid": "home", "uid": HEX, "req": "00" * 16}, 1)


def test_the_answer_to_another_applications_request():
    plain = made(("home", "office"))
    requests = asked(plain)
    refused(
        "unexpected",
        plain.on_response,
        {"appid": "home", "uid": HEX, "req": requests["office"]["req"]},
        1,
    )
    nothing_learned(plain)


def test_a_late_answer():
    for now, late in ((29999, False), (30000, True), (40000, True)):
        plain = made()
        fields = answer(plain)
        if late:
            refused("unexpected", plain.on_response, fields, now)
            nothing_learned(plain)
        else:
            plain.on_response(fields, now)
            check(plain.ready)


def test_a_second_answer():
    plain = made()
    fields = answer(plain)
    plain.on_response(fields, 1)
    for second in (fields, dict(fields, uid=OTHER)):
        refused("unexpected", plain.on_response, second, 2)
    equal(plain.open("blink", command())[0], "home")
    refused("wrong-application", plain.open, "blink", command(uid=OTHER))


def test_a_malformed_uid():
    for bad in (
        "",
        None,
        1,
        True,
        [],
        UID.hex()[:-2],
        HEX + "00",
        HEX[:-1] + "g",
        HEX.upper(),
        " " + HEX[1:],
        "ä" * 64,
        "\0" * 64,
        "0x" + HEX[2:],
    ):
        plain = made()
        fields = answer(plain, uid=bad)
        refused("bad-body", plain.on_response, fields, 1)
        nothing_learned(plain)
        # Garbage does not use the request up: only a sender that knows `req` could do that.
        plain.on_response(dict(fields, uid=HEX), 2)
        check(plain.ready)


# -- keeping ----------------------------------------------------------------------------------


def test_a_stored_id_survives_and_is_not_asked_for_again():
    store = DictStore()
    vault = vault_with(store)
    knowing(vault=vault)
    equal(vault.get("uid_home"), UID)
    vault = Vault(store, RootKey())
    vault.open()
    plain = made(vault=vault)
    equal((plain.ready, asked(plain), plain.due_ms()), (True, {}, None))
    equal(plain.open("blink", command())[1], 7)
    for data in store.files.values():
        check(UID not in data and HEX.encode() not in data)


def test_without_storage_it_asks_at_every_start():
    vault = vault_with()
    before = vault.generation
    knowing(vault=vault, store=False)
    equal((vault.generation, vault.get("uid_home")), (before, None))
    equal(sorted(asked(made(vault=vault, store=False))), ["home"])
    # And what an earlier policy stored is not used.
    vault.put("uid_home", UID)
    check(not made(vault=vault, store=False).ready)


def test_a_flash_that_fails_teaches_nothing():
    vault = vault_with()
    plain = made(vault=vault)
    fields = answer(plain)
    vault.close()
    raises("closed", plain.on_response, fields, 1)
    nothing_learned(plain)


# -- commands ---------------------------------------------------------------------------------


def test_a_good_command():
    equal(knowing().open("blink", command()), ("home", 7, {"n": 1}))
    for id in (0, (1 << 32) - 1):
        equal(knowing().open("blink", command(id=id, args={}, extra=1))[1:], (id, {}))


def test_a_wrong_or_missing_application():
    plain = knowing()
    for appid in ("stranger", "", None, 1, [], {}, True, "home ", "HOME"):
        refused("wrong-application", plain.open, "blink", command(appid=appid))
    fields = command()
    del fields["appid"]
    refused("wrong-application", plain.open, "blink", fields)


def test_a_wrong_or_missing_uid():
    plain = knowing()
    last = "e8" if HEX[-2:] != "e8" else "e9"
    for uid in (
        OTHER,
        HEX.upper(),
        HEX[:-2] + last,
        HEX[:-2],
        HEX + "00",
        "",
        None,
        0,
        [],
        UID.hex().replace("c", "C"),
        "g" * 64,
        "ä" * 64,
    ):
        refused("wrong-application", plain.open, "blink", command(uid=uid))
    fields = command()
    del fields["uid"]
    refused("wrong-application", plain.open, "blink", fields)


def test_no_command_before_the_id_is_known():
    plain = made()
    for uid in (HEX, "", None, "00" * 32):
        refused("wrong-application", plain.open, "blink", command(uid=uid))


def test_validation_off_asks_for_the_application_only():
    plain = knowing(validate=False)
    for uid in (OTHER, None, "garbage"):
        equal(plain.open("blink", command(uid=uid))[0], "home")
    refused("wrong-application", plain.open, "blink", command(appid="stranger"))
    refused("bad-body", plain.open, "blink", command(id=-1))


def test_a_command_that_its_topic_does_not_name():
    plain = knowing()
    for name in ("reboot", "", None, "BLINK", ["blink"], 1):
        refused("bad-body", plain.open, "blink", command(cmd=name))
    fields = command()
    del fields["cmd"]
    refused("bad-body", plain.open, "blink", fields)
    # Who does not know the ID learns nothing of what else is wrong.
    refused("wrong-application", plain.open, "blink", {"appid": "home"})


def test_a_bad_id_or_bad_arguments():
    plain = knowing()
    for id in (True, False, None, "7", 7.0, -1, 1 << 32, 1 << 70, [], {}, 1e300):
        refused("bad-body", plain.open, "blink", command(id=id))
    for args in (None, [], "x", 1, True):
        refused("bad-body", plain.open, "blink", command(args=args))
    for key in ("id", "args"):
        fields = command()
        del fields[key]
        refused("bad-body", plain.open, "blink", fields)


def test_events():
    fields = json.loads(made().event("reply", {"id": 3, "ok": True}))
    equal(fields, {"event": "reply", "deviceId": "lamp-1", "id": 3, "ok": True})
