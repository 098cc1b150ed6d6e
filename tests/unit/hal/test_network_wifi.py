"""Join one of several networks, and join anew where nothing passes, on a model of the driver."""

import asyncio

from harness import check, equal, raises
from warden.errors import PeerError
from warden.hal import network_wifi as module
from warden.hal.network_wifi import WiFi
from wlan_model import Time, Wlan

GARDEN = ["garden", b"secret"]
HOUSE = ["house", b"another secret"]
OPEN = ["cafe", b""]
JOINED = [("active", True), ("connect", "garden", b"secret")]


def run(work, time):
    """Run a coroutine with this clock in the place of the chip's."""
    saved = module.time, module.asyncio
    module.time = module.asyncio = time
    try:
        return asyncio.run(work)
    finally:
        module.time, module.asyncio = saved


def made(networks, air=None, **keywords):
    """Return (WiFi, its driver, its clock)."""
    time = Time()
    wlan = Wlan(time, {"garden": b"secret"} if air is None else air, **keywords)
    return WiFi(networks, interface=wlan), wlan, time


def test_connects():
    for takes_ms in (0, 50, 700, 1000):
        wifi, wlan, time = made([GARDEN], takes_ms=takes_ms)
        run(wifi.up(1000), time)
        equal(wlan.calls, JOINED)
        check(takes_ms <= time.now <= takes_ms + 50)


def test_a_network_is_proved_by_a_session_and_anew_after_each_join():
    wifi, _, time = made([GARDEN])
    proved = [wifi.proved]
    for change in (lambda: None, wifi.good, lambda: None, wifi.failed):
        run(wifi.up(1000), time)
        change()
        proved.append(wifi.proved)
    run(wifi.up(1000), time)
    equal(proved + [wifi.proved], [False, False, True, True, True, False])


def test_a_network_that_is_up_is_left_alone():
    wifi, wlan, time = made([GARDEN])
    run(wifi.up(1000), time)
    run(wifi.up(1000), time)
    equal((wlan.calls, time.now), (JOINED, 0))


def test_a_station_that_the_access_point_forgot_joins_again():
    """The driver may report a connection long after the access point dropped it."""
    for esp32 in (False, True):
        wifi, wlan, time = made([GARDEN], esp32=esp32, takes_ms=100)
        run(wifi.up(1000), time)
        wlan.forget()
        run(wifi.up(1000), time)
        check(wlan.isconnected() and not wlan.passes())
        wifi.failed()
        equal(wlan.calls, JOINED)  # not before it is wanted again
        run(wifi.up(1000), time)
        equal(wlan.calls, JOINED + [("disconnect",)] + JOINED)
        check(wlan.passes())
        run(wifi.up(1000), time)
        equal(len(wlan.calls), 5)


def test_the_radio_is_turned_off_where_joining_anew_did_not_help():
    wifi, wlan, time = made([GARDEN])
    run(wifi.up(1000), time)
    for off in (False, True, True):
        del wlan.calls[:]
        wifi.failed()
        run(wifi.up(1000), time)
        equal(("active", False) in wlan.calls, off)
    wifi.good()
    del wlan.calls[:]
    wifi.failed()
    run(wifi.up(1000), time)
    check(("active", False) not in wlan.calls)


def test_an_open_network_has_no_password():
    wifi, wlan, time = made([OPEN], {"cafe": b""})
    run(wifi.up(1000), time)
    equal(wlan.calls[1], ("connect", "cafe", None))


def test_no_connection_in_time():
    for air in ({}, {"garden": b"changed"}):
        for esp32 in (False, True):
            wifi, wlan, time = made([GARDEN], air, esp32=esp32)
            error = raises("unreachable", run, wifi.up(5000), time)
            check(isinstance(error, PeerError))
            check("secret" not in str(error))
            # The driver must not go on trying, or it refuses the next connect().
            equal(wlan.calls[-1], ("disconnect",))
            # A single network has all of the time, whatever the driver's status says.
            check(5000 < time.now <= 5100)
            wlan.air = {"garden": b"secret"}
            run(wifi.up(1000), time)
            check(wlan.passes())


def test_a_driver_error_resets_nothing():
    # An ESP32 that is reconnecting by itself refuses connect(): jamming the radio must not make
    # the device reboot.
    for trouble in ("active", "connect"):
        wifi, wlan, time = made([GARDEN], trouble=trouble)
        check(isinstance(raises("unreachable", run, wifi.up(1000), time), PeerError))
        check(("disconnect",) in wlan.calls)
        wlan.trouble = ""
        run(wifi.up(1000), time)
        check(wlan.passes())


def test_a_driver_that_keeps_refusing_gets_its_radio_turned_off():
    wifi, wlan, time = made([GARDEN], trouble="connect")
    for turned in (False, True):
        raises("unreachable", run, wifi.up(1000), time)
        equal(("active", False) in wlan.calls, turned)


def test_a_radio_that_a_reset_left_on_refuses_once():
    # RP2's active() may fail without a word; connect() then says it.
    for trouble, began in (("active", JOINED[:1]), ("connect", JOINED)):
        wifi, wlan, time = made([GARDEN], trouble=trouble, times=1)
        run(wifi.up(1000), time)
        equal(wlan.calls, began + JOINED)
        equal(time.now, 0)


def test_a_driver_that_refuses_to_disconnect():
    wifi, wlan, time = made([GARDEN], {}, trouble="disconnect")
    raises("unreachable", run, wifi.up(1000), time)
    wlan.air["garden"] = b"secret"
    run(wifi.up(1000), time)
    wifi.failed()
    run(wifi.up(1000), time)
    check(wlan.passes())


def test_nothing_is_touched_before_it_is_asked_for():
    wlan = made([GARDEN])[1]
    equal((wlan.calls, wlan.settings), ([], {}))


def test_the_next_network_is_tried_where_one_is_not_there():
    """Soon: after the driver has said for two seconds that it failed."""
    for esp32 in (False, True):
        for air in ({"house": HOUSE[1]}, {"house": HOUSE[1], "garden": b"changed"}):
            wifi, wlan, time = made([GARDEN, HOUSE], air, esp32=esp32)
            run(wifi.up(20000), time)
            equal(wlan.joined(), ["garden", "house"])
            check(wlan.passes())
            check(time.now < (8000 if esp32 else 3000), "%d ms" % time.now)


def test_all_networks_are_tried_once():
    wifi, wlan, time = made([GARDEN, HOUSE, OPEN], {})
    error = raises("unreachable", run, wifi.up(1000), time)
    equal(wlan.joined(), ["garden", "house", "cafe"])
    check("secret" not in str(error))
    raises("unreachable", run, wifi.up(1000), time)
    equal(wlan.joined(), ["garden", "house", "cafe"] * 2)


def test_a_network_without_a_way_out_is_left():
    """It gives an address, and no server is reached through it."""
    air = {"garden": b"secret", "house": HOUSE[1]}
    wifi, wlan, time = made([GARDEN, HOUSE], air)
    run(wifi.up(1000), time)
    for ssid in ("house", "garden"):
        wifi.failed()
        run(wifi.up(1000), time)
        equal(wlan.joined()[-1], ssid)


def keeper():
    kept = []
    return kept, (lambda name, value: kept.append((name, value)), list)


def test_the_network_that_worked_is_kept_as_the_first():
    kept, keep = keeper()
    time = Time()
    wlan = Wlan(time, {"house": HOUSE[1]})
    wifi = WiFi([GARDEN, HOUSE, OPEN], keep=keep, interface=wlan)
    run(wifi.up(1000), time)
    equal(kept, [])  # an address proves nothing
    wifi.good()
    equal(kept, [("network", [HOUSE, OPEN, GARDEN])])
    # Once a start: two networks in turn must not wear the flash.
    wlan.air = {"garden": b"secret"}
    wifi.failed()
    run(wifi.up(1000), time)
    wifi.good()
    equal(len(kept), 1)


def test_the_first_network_is_not_written_again():
    kept, keep = keeper()
    time = Time()
    wifi = WiFi([GARDEN, HOUSE], keep=keep, interface=Wlan(time, {"garden": b"secret"}))
    run(wifi.up(1000), time)
    wifi.good()
    equal(kept, [])


def test_other_networks_while_it_runs():
    wifi, wlan, time = made([GARDEN], {"garden": b"secret", "house": HOUSE[1]})
    run(wifi.up(1000), time)
    wifi.use([HOUSE])
    check(wlan.passes())  # not before up()
    run(wifi.up(1000), time)
    equal(wlan.joined(), ["garden", "house"])
    # The present network is one of the new ones: it stays.
    wifi.use([GARDEN, HOUSE])
    run(wifi.up(1000), time)
    equal(wlan.joined(), ["garden", "house"])
    # Another password for it: it is joined with that.
    wifi.use([["house", b"changed"]])
    raises("unreachable", run, wifi.up(1000), time)
    equal(wlan.calls[-2][:3], ("connect", "house", b"changed"))


def test_power_saving():
    for power, mode in (("none", 0), ("performance", 1), ("powersave", 2)):
        for esp32 in (False, True):
            time = Time()
            wlan = Wlan(time, {"garden": b"secret"}, esp32=esp32)
            run(WiFi([GARDEN], power=power, interface=wlan).up(1000), time)
            equal(wlan.settings["pm"], mode)
    wlan = made([GARDEN])[1]
    check("pm" not in wlan.settings)


def test_a_driver_without_power_saving():
    class Old(Wlan):
        def config(self, **settings):
            raise ValueError("unknown config param")

    time = Time()
    wlan = Old(time, {"garden": b"secret"})
    run(WiFi([GARDEN], power="none", interface=wlan).up(1000), time)
    check(wlan.passes())


def test_country():
    """It is set before the radio is turned on."""
    import sys

    calls = []

    class Network:
        STA_IF = 0

        @staticmethod
        def country(code):
            calls.append(("country", code))

        @staticmethod
        def WLAN(interface):  # noqa: N802  (as MicroPython calls it)
            calls.append(("WLAN", interface))

    before = sys.modules.get("network")
    sys.modules["network"] = Network
    try:
        module.make(("DE",), [GARDEN], None)
        equal(calls, [("country", "DE"), ("WLAN", 0)])
        del calls[:]
        module.make((), [GARDEN], None)
        module.make((None, "none"), [GARDEN], None)
        equal(calls, [("WLAN", 0)] * 2)
    finally:
        del sys.modules["network"]
        if before is not None:
            sys.modules["network"] = before
