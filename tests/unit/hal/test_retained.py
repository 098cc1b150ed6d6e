"""Memory that outlives deep sleep: what the agent makes of the port's own."""

from harness import check, equal
from warden.hal import retained


class Rtc:
    """As machine.RTC of an ESP32: it refuses more than 2,048 bytes, and keeps what it had."""

    kept = b""

    def memory(self, *data):
        if not data:
            return Rtc.kept
        if len(data[0]) > 2048:
            raise ValueError("buffer too long")
        Rtc.kept = bytes(data[0])


class Machine:
    """The port's module. slept: milliseconds."""

    slept = None

    def deepsleep(self, ms):
        self.slept = ms


def on(machine, work):
    kept, retained.machine = retained.machine, machine
    try:
        return work()
    finally:
        retained.machine = kept


def test_what_was_written_outlives_the_object():
    machine = Machine()
    machine.RTC = Rtc
    memory = on(machine, retained.find)
    equal(memory.read(), b"")
    check(memory.write(b"state"))
    equal(on(machine, retained.find).read(), b"state")
    check(memory.write(b""))
    equal(memory.read(), b"")


def test_what_does_not_fit_leaves_nothing():
    """What was there is of a sleep that is over: it must not be found after the next one."""
    machine = Machine()
    machine.RTC = Rtc
    memory = on(machine, retained.find)
    check(memory.write(bytes(2048)))
    check(not memory.write(bytes(2049)))
    equal(memory.read(), b"")


def test_a_port_without_it_has_none():
    machine = Machine()
    equal(on(machine, retained.find), None)
    machine.RTC = object  # as on an RP2: a clock without memory
    equal(on(machine, retained.find), None)


def test_a_sleep_is_given_in_milliseconds():
    machine = Machine()
    on(machine, lambda: retained.deep_sleep(600))
    equal(machine.slept, 600000)
