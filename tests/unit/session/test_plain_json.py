"""Plain mode: JSON that is garbage, too deep, too large or ambiguous."""

import json
from collections import OrderedDict, namedtuple

from harness import check, equal, raises
from test_plain import HEX, OTHER, command, knowing, made, refused
from warden.errors import PeerError
from warden.session import plain as module
from warden.wire import cbor
from warden.wire.cbor_reader import ITEMS

PURE = True
# Small, so that what takes memory without a limit shows.
HEAP = "320k"


def test_json_that_is_no_object():
    plain = made()
    for data in (
        b"",
        b" ",
        b"null",
        b"true",
        b"1",
        b'"text"',
        b"[]",
        b"[{}]",
        b"{",
        b"}",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":{"b":1}',
        b'{"a":[1}',
        b'{"a":[1}}',
        b'{"a":[1]',
        b'{"a":{1]}',
        b'{"a":"}"',
        b'{"a":1}}',
        b'{"a":1}{"b":2}',
        b'{"a":1} x',
        b"{'a':1}",
        b'{"a":\xff}',
        b'{"a":"\xff\xfe"}',
        b'{"\xff":1}',
        b"\x00",
        b'{"a":"\\u12"}',
        b'{"a":tru}',
        b'{"a":-}',
        b'{"a":1e}',
        b"{[]:1}",
        b"{{}:1}",
        b'{"a":' + b"9" * 3000,
    ):
        refused("bad-body", plain.parse, data)


def test_json_that_is_nested_deeply_takes_no_memory():
    plain = made()
    for size in (8, 9, 100, 2000, 16000):
        for opening in (b"[", b'{"a":', b'[{"":'):
            refused("bad-body", plain.parse, b'{"x":' + opening * min(size, 16000 // len(opening)))
    deep = b'{"a":' * 7 + b"{}" + b"}" * 7
    check(isinstance(plain.parse(deep), dict))
    refused("bad-body", plain.parse, b'{"a":' + deep + b"}")
    refused("bad-body", plain.parse, b'{"a":' + b"[" * 8 + b"]" * 8 + b"}")
    # Brackets in a text are text; wide is not deep; a quoted quote ends no text.
    equal(plain.parse(b'{"a":"' + b"[{" * 500 + b'"}'), {"a": "[{" * 500})
    equal(plain.parse(b'{"a":"\\"' + b"[{" * 50 + b'\\\\"}'), {"a": '"' + "[{" * 50 + "\\"})
    equal(plain.parse(b'{"a":[' + b"[]," * 50 + b"{}]}"), {"a": [[]] * 50 + [{}]})


def test_an_escape_hides_no_brackets():
    plain = made()
    # Four characters behind \u are the parser's, whatever they are: the text would go on.
    around = b'{"a":"\\u"xxx","b":%s,"c":"\\u"xxx"}'
    for inside in (b"1", b"[" * 12 + b"]" * 12, b"[1}"):
        refused("bad-body", plain.parse, around % inside)
    for text in (b"\\u12", b"\\uzzzz", b"\\u004", b"\\u-041", b"\\u 041"):
        refused("bad-body", plain.parse, b'{"a":"' + text + b'"}')
    equal(plain.parse(b'{"a":"\\u0041\\u00fFu\\\\u\\""}'), {"a": 'A\xffu\\u"'})


def test_json_ends_at_its_end():
    plain = made()
    for data in (b'{"a":1}\0', b'{"a":1}\0garbage', b'{"a":"x\0y"}'):
        refused("bad-body", plain.parse, data)


def test_json_that_grows_in_memory():
    plain = made()
    data = b'{"a":[' + b"[]," * 5400 + b"[]]}"
    try:
        check(isinstance(plain.parse(data), dict))
    except PeerError as error:
        equal(error.code, "bad-body")


def test_memory_that_runs_out_is_the_messages_fault():
    saved = module.json

    class Hungry:
        def loads(self, data):
            raise MemoryError()

    module.json = Hungry()
    try:
        refused("bad-body", made().parse, b"{}")
    finally:
        module.json = saved


def test_memory_that_runs_out_for_the_copy():
    class Large:
        def __iter__(self):
            raise MemoryError()

    refused("bad-body", made().parse, Large())


def test_the_last_of_two_equal_keys_is_the_one_that_is_judged():
    plain = knowing()
    text = '{"cmd":"blink","id":1,"args":{},"appid":"home","uid":"%s","uid":"%s"}'
    fields = plain.parse((text % (HEX, OTHER)).encode())
    refused("wrong-application", plain.open, "blink", fields)
    fields = plain.parse((text % (OTHER, HEX)).encode())
    equal(plain.open("blink", fields)[0], "home")


def test_numbers_without_end():
    plain = knowing()
    for number in (b"9" * 4000, b"-" + b"9" * 4000, b"1e999", b"1.5"):
        data = json.dumps(command(id=0)).encode().replace(b'"id": 0', b'"id": ' + number)
        refused("bad-body", plain.open, "blink", plain.parse(data))


def test_a_parser_that_takes_what_is_cut_short():
    """MicroPython's parser accepts {"a":[1}}, and up to 1.25 {"a":1: brackets are checked."""

    class Lenient:
        def loads(self, data):
            return {}

    saved = module.json
    module.json = Lenient()
    try:
        plain = made()
        for data in (
            b"{",
            b'{"a":{}',
            b'{"a":[}}',
            b'{"a":[}',
            b"{]",
            b"}",
            b'{"a',
            b'{"a":"}',
            b'{"\\"}',
        ):
            refused("bad-body", plain.parse, data)
        for data in (b"{}", b'{"a":[{}]}', b'{"]":"{\\"["}', b'{"a":[[[[[[[]]]]]]]}'):
            equal(plain.parse(data), {})
        refused("bad-body", plain.parse, b'{"a":[[[[[[[[]]]]]]]]}')
    finally:
        module.json = saved


NAN = float("nan")
INFINITY = float("inf")
# A lone surrogate: what JSON's "\\ud800" gives.
SURROGATE = json.loads(b'"\\ud800"')


def test_what_json_has_no_form_for():
    plain = made()
    for value in (
        NAN,
        INFINITY,
        -INFINITY,
        b"ab",
        b"\xff",
        bytearray(2),
        memoryview(b"ab"),
        {1, 2},
        range(3),
        object(),
        1 << 64,
        -(1 << 64) - 1,
        SURROGATE,
        {1: 2},
        {None: 2},
        {b"k": 2},
        {SURROGATE: 2},
    ):
        for body in (value, [value], (1, value), {"a": {"b": value}}):
            raises("bad-argument", plain.event, "x", {"body": body})


def test_what_json_has_a_form_for():
    point = namedtuple("point", ("x", "y"))(1, 2)
    for value, wanted in (
        (point, [1, 2]),
        ((), []),
        ({}, {}),
        ([[], {}], [[], {}]),
        (OrderedDict([("b", 1), ("a", 2)]), {"a": 2, "b": 1}),
        ((1, -1.5, None, True, "x"), [1, -1.5, None, True, "x"]),
        ({"": '"\\\n\x00\x7f\u00e9\U0001f600'}, {"": '"\\\n\x00\x7f\u00e9\U0001f600'}),
        ((1 << 64) - 1, (1 << 64) - 1),
        (-(1 << 64), -(1 << 64)),
    ):
        fields = json.loads(made().event("x", {"body": value}))
        equal(fields, {"event": "x", "deviceId": "lamp-1", "body": wanted})


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_events_that_the_host_takes():
    plain = made()
    # The event is an object, and its fields, itself and the list count as well.
    plain.event("x", {"body": nested(cbor.DEEPEST - 1)})
    raises("bad-argument", plain.event, "x", {"body": nested(cbor.DEEPEST)})
    plain.event("x", {"body": [0] * (ITEMS - 7)})
    raises("bad-argument", plain.event, "x", {"body": [0] * (ITEMS - 6)})
    plain.event("x", {"body": [{}] * (ITEMS - 7)})
    # One object four times: a thousand keys at once find no room in one piece.
    pairs = {str(n): n for n in range(ITEMS // 8)}
    raises("bad-argument", plain.event, "x", {"body": [pairs] * 4})


def test_arguments_that_no_message_can_carry():
    plain = knowing()
    for value in (b"1e400", b"-1e400", b"[1, 1e999]", b'"\\ud800"', b'{"\\udfff": 1}', b"9" * 30):
        data = json.dumps(command(args={"n": 5})).encode().replace(b"5}", value + b"}")
        refused("bad-body", plain.open, "blink", plain.parse(data))
    equal(plain.open("blink", command(args={"n": [1, -0.5, "x"]}))[2], {"n": [1, -0.5, "x"]})
