"""IDs and topics."""

from harness import check, equal, raises
from warden.errors import PeerError, UsageError
from warden.wire import cbor
from warden.wire.names import COSE, JSON, Topics, is_id, is_word

PURE = True

ID = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


def test_ids():
    for text in list(ID) + [ID[:32], ID[-32:], "-", "__"]:
        check(is_id(text), text)
    for text in (
        "",
        "n" * 33,
        "a.b",
        "a/b",
        "a+",
        "#",
        "a b",
        "a\n",
        "\0",
        "ä",
        "\u2161",
        None,
        1,
        b"a",
        ["a"],
        True,
    ):
        check(not is_id(text), repr(text))
    for code in range(128):
        equal(is_id(chr(code)), chr(code) in ID, repr(chr(code)))


def test_words():
    for text in ("a", "set_relay", "0", "_" * 32):
        check(is_word(text), text)
    for text in ("", "w" * 33, "A", "a-b", "a.b", "a/b", "a\n", "ä", None, 1, b"a"):
        check(not is_word(text), repr(text))
    for code in range(128):
        equal(
            is_word(chr(code)),
            chr(code) in "abcdefghijklmnopqrstuvwxyz0123456789_",
            repr(chr(code)),
        )


def test_a_device_needs_good_names():
    for bad in ("", "a/b", "n" * 33, None):
        check(isinstance(raises("bad-name", Topics, bad, "d"), UsageError))
        raises("bad-name", Topics, "t", bad)


def test_topics():
    names = Topics("lamp", "lamp-1")
    equal(names.event("reply", COSE), "iot-2/type/lamp/id/lamp-1/evt/reply/fmt/cose")
    equal(names.command("blink", JSON), "iot-2/type/lamp/id/lamp-1/cmd/blink/fmt/json")
    equal(names.subscription, "iot-2/type/lamp/id/lamp-1/cmd/+/fmt/+")
    for fmt in (JSON, COSE):
        for command in ("blink", "w" * 32):
            topic = names.command(command, fmt).encode()
            equal(names.parse(topic), (command, fmt))
            equal(names.parse(memoryview(topic)), (command, fmt))


def test_topics_of_others():
    names = Topics("lamp", "lamp-1")
    for topic in (
        b"",
        b"/",
        b"////////",
        b"iot-2/type/lamp/id/lamp-1/cmd/blink/fmt/json/",
        b"/iot-2/type/lamp/id/lamp-1/cmd/blink/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/blink/fmt",
        b"iot-2/type/lamp/id/lamp-1/cmd/blink/fmt/",
        b"iot-2/type/lamp/id/lamp-1/cmd//fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/blink/fmt/xml",
        b"iot-2/type/lamp/id/lamp-1/cmd/blink/fmt/JSON",
        b"iot-2/type/lamp/id/lamp-1/cmd/Blink/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/bl-nk/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/+/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/#",
        b"iot-2/type/lamp/id/lamp-1/cmd/" + b"w" * 33 + b"/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/evt/blink/fmt/json",
        b"iot-2/type/lamp/id/lamp-2/cmd/blink/fmt/json",
        b"iot-2/type/lamb/id/lamp-1/cmd/blink/fmt/json",
        b"iot-2/type/lamp/ID/lamp-1/cmd/blink/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/blink/FMT/json",
        b"iot-3/type/lamp/id/lamp-1/cmd/blink/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/bl\0nk/fmt/json",
        b"iot-2/type/lamp/id/lamp-1/cmd/bl\xffnk/fmt/json",
        b"\xff\xfe" * 20,
        b"iot-2/type/lamp/id/lamp-1/cmd/bl\xc3\xa4nk/fmt/json",
        b"x" * 2000,
        b"/" * 2000,
    ):
        check(isinstance(raises("bad-topic", names.parse, topic), PeerError), topic)


def test_sealed_events():
    names = Topics("lamp", "lamp-1")
    for _ in range(3):
        for number in range(20):
            event = "e%d" % number
            topic = names.event(event, COSE)
            equal(names.sealed(event), (topic.encode(), cbor.encode(["msg", topic])))
            check(len(names._sealed) <= 4, "it must not grow")
    check(names.sealed("e19") is names.sealed("e19"))
    for bad in ("e 1", "", "E", None, 1, ["e19"], {}, b"e19"):
        check(not names.is_event(bad), bad)
    check(names.is_event("e19") and names.is_event("e0"))
