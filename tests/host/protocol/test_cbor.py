"""The device's CBOR against cbor2: what cbor2 writes canonically is read, and nothing else is; on
CPython and on the unix port."""

import os
import struct
import sys
from pathlib import Path

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "cpython"))

import both  # noqa: E402  (the path must be set first)
from warden.wire import cbor, cbor_reader  # noqa: E402

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "600"))

keys = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=12) | st.binary(max_size=12)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.binary(max_size=300)
    | st.text(max_size=100)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, list):
        return 1 + max((depth(v) for v in value), default=0)
    if isinstance(value, dict):
        return 1 + max((depth(v) for v in value.values()), default=0)
    return 0


def flat(value: object) -> object:
    """Something to compare in which -0.0 differs from 0, 1 from 1.0 and True, and the order of a
    dict does not count."""
    if isinstance(value, list):
        return [flat(v) for v in value]
    if isinstance(value, dict):
        return sorted(((repr(k), flat(v)) for k, v in value.items()), key=lambda pair: pair[0])
    if isinstance(value, float):
        return ("f", struct.pack(">d", value))
    return (type(value), value)


def reference(value: object) -> bytes:
    """The encoding of RFC 8949 §4.2.1. cbor2's canonical mode still sorts keys by length first, as
    RFC 7049 had it."""
    if isinstance(value, list | tuple):
        return cbor.head(cbor_reader.ARRAY, len(value)) + b"".join(reference(v) for v in value)
    if isinstance(value, dict):
        pairs = sorted((reference(k), reference(v)) for k, v in value.items())
        return cbor.head(cbor_reader.MAP, len(pairs)) + b"".join(k + v for k, v in pairs)
    return cbor2.dumps(value, canonical=True)


def oracle(data: bytes) -> bool:
    """Whether data is in our encoding, as cbor2 and a second look at the value see it."""
    try:
        value = cbor2.loads(data)
        return ours(value) and reference(value) == data
    except Exception:  # cbor2 raises much on garbage, also TypeError and OverflowError
        return False


def ours(value: object) -> bool:
    if isinstance(value, bool) or value is None or isinstance(value, (bytes, str)):
        return True
    if isinstance(value, int):
        return -(2**64) <= value < 2**64
    if isinstance(value, float):
        return value - value == 0
    if isinstance(value, (list, tuple)):
        return all(ours(v) for v in value)
    if isinstance(value, dict):
        return all(
            isinstance(k, (int, str, bytes)) and not isinstance(k, bool) and ours(k) and ours(v)
            for k, v in value.items()
        )
    return False


SEEN: list[bytes] = []


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
@given(values)
def check_values(value: object) -> None:
    data = reference(value)
    if depth(value) > 8:
        assert both.here([both.line("cbor", data)]) == ["error cbor-limit"]
        return
    assert cbor.encode(value) == data
    assert flat(cbor.decode(data)) == flat(value)
    SEEN.append(data)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid encoding with a few bytes changed, cut or put in: what a parser finds hard."""
    data = bytearray(reference(draw(values)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.integers(0, 2))
        if how == 0:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == 1:
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        else:
            del data[at : at + draw(st.integers(1, 4))]
    return bytes(data)


def check_decoders(data: bytes) -> None:
    got = both.here([both.line("cbor", data)])[0]
    if got == data.hex():
        assert oracle(data)
    else:
        assert got in ("error cbor-malformed", "error cbor-not-canonical", "error cbor-limit")
        assert not oracle(data) or depth(cbor2.loads(data)) > 8
    SEEN.append(data)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=40))
def check_garbage(data: bytes) -> None:
    check_decoders(data)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
@given(damaged())
def check_damaged(data: bytes) -> None:
    check_decoders(data)


def on_the_port(micropython: str, check) -> None:
    SEEN.clear()
    check()
    assert len(SEEN) > EXAMPLES // 2
    questions = [both.line("cbor", data) for data in SEEN]
    assert both.port(micropython, questions) == both.here(questions)


def test_every_value_of_cbor2(micropython: str) -> None:
    on_the_port(micropython, check_values)


def test_garbage_is_refused(micropython: str) -> None:
    on_the_port(micropython, check_garbage)


def test_damaged_messages(micropython: str) -> None:
    on_the_port(micropython, check_damaged)


def test_every_short_input(micropython: str) -> None:
    questions = [both.line("cbor", bytes((a,))) for a in range(256)]
    questions += [both.line("cbor", bytes((a, b))) for a in range(256) for b in range(0, 256, 5)]
    for question, got in zip(questions, both.here(questions), strict=True):
        data = bytes.fromhex(question.split()[1])
        assert (got == data.hex()) == oracle(data), data.hex()
    assert both.port(micropython, questions) == both.here(questions)
