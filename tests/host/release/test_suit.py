"""Test the device on SUIT manifests of an independent encoder, on CPython and the unix port."""

import random
import sys
from pathlib import Path
from typing import Any

import cbor2
import pytest
import suit_kit as kit
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "cpython"))

import both  # noqa: E402  (the path must be set first)

KEY = ec.derive_private_key(0x1234567, ec.SECP256R1())
SIGN = kit.ecdsa(KEY)
GOOD = f"1 0 0 0 0 {kit.sha256(kit.IMAGE).hex()} {len(kit.IMAGE)} {b'mqtt:app'.hex()}"


def question(envelope: bytes, key: bytes = kit.public_of(KEY), **other: Any) -> str:
    values = {
        "vendor": kit.VENDOR,
        "class_id": kit.CLASS,
        "slot": b"\0",
        "components": kit.components(),
        "least": b"\0",
        "held": b"",
    } | other
    return both.line("suit", key, *values.values(), envelope)


def ask(micropython: str, questions: list[str]) -> list[str]:
    """The answers of the port, which must be CPython's as well."""
    answers = both.port(micropython, questions)
    assert answers == both.here(questions)
    return answers


def ask_one(micropython: str, envelope: bytes, **other: Any) -> str:
    return ask(micropython, [question(envelope, **other)])[0]


def made(sign=SIGN, alg: int = -7, beside=None, blocks: int = 1, header=None, **changes) -> bytes:
    return kit.envelope(kit.manifest(**changes), sign, alg, beside, blocks, header)


def test_without_a_shared_sequence(micropython: str) -> None:
    """Everything may stand in the install sequence alone."""
    parameters = kit.device_parameters() | kit.image_parameters() | {21: "mqtt:app"}
    alone = kit.sequence(20, parameters, 1, 15, 2, 15, 21, 2, 3, 15)
    assert ask_one(micropython, made(m3=kit.pack({2: [kit.APP]}), install=alone)) == GOOD
    unchecked = kit.sequence(20, parameters, 21, 2)
    said = ask_one(micropython, made(m3=kit.pack({2: [kit.APP]}), install=unchecked))
    assert said == "error wrong-device"


def test_a_last_branch_of_nothing(micropython: str) -> None:
    """try-each whose last branch is null: none of them has to fit."""
    none_fits = kit.install(15, [kit.sequence(20, {5: 1}, 5, 15), None])
    assert ask_one(micropython, made(install=none_fits)) == GOOD


def test_a_branch_that_does_what_it_may_not(micropython: str) -> None:
    """Only a condition that fails leads to the next branch."""
    twice = kit.sequence(20, {21: "mqtt:app"}, 21, 2, 21, 2)
    install = kit.sequence(15, [twice, kit.install()])
    assert ask_one(micropython, made(install=install)) == "error suit-unsupported"


def test_a_good_one_with_each_algorithm(micropython: str) -> None:
    big = rsa.generate_private_key(65537, 2048)
    asked = [
        question(made()),
        question(made(alg=-9)),
        question(made(sign=kit.pss(big), alg=-37), key=kit.public_of(big)),
        question(made(header={4: b"8 bytes!"})),
    ]
    assert ask(micropython, asked) == [GOOD] * 4


def test_an_algorithm_that_is_not_the_keys(micropython: str) -> None:
    big = rsa.generate_private_key(65537, 2048)
    asked = [
        question(made(sign=kit.pss(big), alg=-37)),
        question(made(), key=kit.public_of(big)),
        question(made(alg=-8)),
        question(made(alg=-35)),
    ]
    assert ask(micropython, asked) == ["error cose-algorithm"] * 4


def test_another_key(micropython: str) -> None:
    other = ec.derive_private_key(99, ec.SECP256R1())
    assert ask_one(micropython, made(sign=kit.ecdsa(other))) == "error tampered"


def test_the_drafts_own_examples(micropython: str) -> None:
    """Draft -37, appendix B: examples 1, 3 and 5, with the key given there. 5 checks vendor and
    class for the first of two components alone."""
    pem = (TESTS / "vectors" / "suit_key.pem").read_bytes()
    public = load_pem_public_key(pem)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    numbers = public.public_numbers()
    key = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    vendor = bytes.fromhex("fa6b4a53d5ad5fdfbe9de663e4d41ffe")
    class_id = bytes.fromhex("1492af1425695e48bf429b2d51f2ab45")
    texts = (TESTS / "vectors" / "suit_examples.txt").read_text().split()
    one, three, five = (bytes.fromhex(text) for text in texts)
    common = {
        "key": key,
        "vendor": vendor,
        "class_id": class_id,
        "components": kit.components([b"\0"]),
    }
    first = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"
    second = "0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff"
    uri = "http://example.com/file%s.bin"
    two = common | {"components": kit.components([b"\0"], [b"\1"])}
    asked = [
        question(one, **common),
        question(three, **common),
        question(three, **common | {"slot": b"\1"}),
        question(three, **common | {"slot": b"\2"}),
        question(three, **common | {"least": b"\3"}),
        question(three, **common | {"vendor": bytes(16)}),
        question(five, **two),
        question(five, **two | {"class_id": bytes(16)}),
    ]
    assert ask(micropython, asked) == [
        f"1 0 0 None 0 {first} 34768 {(uri % '').encode().hex()}",
        f"3 0 0 None 0 {first} 34768 {(uri % '1').encode().hex()}",
        f"3 1 0 None 0 {second} 76834 {(uri % '2').encode().hex()}",
        "error suit-condition",
        "error old-manifest",
        "error wrong-device",
        f"5 0 0 0 0 {first} 34768 {(uri % '1').encode().hex()} 1 {second} 76834 {(uri % '2').encode().hex()}",
        "error wrong-device",
    ]


def test_every_bit_of_the_envelope(micropython: str) -> None:
    """Flipped one at a time: none is accepted, on the port all of them, under CPython one in a
    byte."""
    for envelope in (
        made(),
        made(m20=kit.digest(kit.pack(kit.install())), beside={20: kit.install()}),
    ):
        assert ask_one(micropython, envelope) == GOOD
        flipped = []
        for place in range(len(envelope)):
            for bit in range(8):
                changed = bytearray(envelope)
                changed[place] ^= 1 << bit
                flipped.append(question(bytes(changed)))
        answers = both.port(micropython, flipped)
        assert all(answer.startswith("error ") for answer in answers)
        assert both.here(flipped[::8]) == answers[::8]
        print(len(envelope), "bytes,", len(flipped), "bits flipped, none accepted")


def test_every_truncation_and_extension(micropython: str) -> None:
    envelope = made()
    cut = [question(envelope[:length]) for length in range(len(envelope))]
    cut += [question(envelope + bytes((byte,))) for byte in (0, 0x60, 0xFF)]
    assert all(answer.startswith("error ") for answer in ask(micropython, cut))


def test_sequence_number(micropython: str) -> None:
    asked = [
        question(made(number=number), least=least.to_bytes(4, "big"))
        for number, least in ((6, 5), (5, 5), (4, 5), (0, 0), (1 << 32, 0), ((1 << 32) - 1, 5))
    ]
    said = [
        answer.split()[1] if "error" in answer else "plan" for answer in ask(micropython, asked)
    ]
    assert said == ["plan", "old-manifest", "old-manifest", "old-manifest", "suit-limit", "plan"]


def test_vendor_and_class(micropython: str) -> None:
    parameters = kit.device_parameters() | kit.image_parameters()
    asked = [
        question(made(), vendor=bytes(16)),
        question(made(), class_id=bytes(16)),
        # Conditions that were never asked, or before the parameter was there.
        question(made(shared=kit.sequence(20, parameters, 2, 15))),
        question(made(shared=kit.sequence(20, parameters, 1, 15))),
        question(made(shared=kit.sequence(1, 15, 20, parameters, 2, 15))),
        # Asked in a branch that failed.
        question(
            made(
                shared=kit.sequence(
                    *(20, parameters, 15),
                    [kit.sequence(1, 15, 2, 15, 20, {5: 1}, 5, 15), kit.sequence()],
                )
            )
        ),
    ]
    codes = {answer.removeprefix("error ") for answer in ask(micropython, asked)}
    assert codes == {"wrong-device"}


def test_vendor_and_class_of_several_components(micropython: str) -> None:
    """They are the device's: a condition that held for one component holds for each.

    A component that names other ones is not for this device.
    """
    names = [kit.APP, [b"data"]]
    image, other = kit.image_parameters(), kit.device_parameters(class_id=bytes(16))
    install = kit.sequence(12, True, 20, {21: "x"}, 21, 2, 3, 15)

    def asked(*shared: Any) -> str:
        common = kit.pack({2: names, 4: kit.sequence(12, True, 20, image, *shared)})
        made_so = made(m3=common, m7=None, m9=None, m20=install)
        return question(made_so, components=kit.components(*names))

    first = (12, 0, 20, kit.device_parameters(), 1, 15, 2, 15)
    each = (20, kit.device_parameters(), 1, 15, 2, 15)
    split = (12, 0, 20, {1: kit.VENDOR}, 1, 15, 12, 1, 20, {2: kit.CLASS}, 2, 15)
    answers = ask(
        micropython,
        [
            asked(*each),
            asked(*first),
            asked(*split),
            asked(*first, 12, 1, 20, kit.device_parameters()),
            asked(*first, 12, 1, 20, other),
            asked(*first, 12, 1, 20, kit.device_parameters(vendor=bytes(16))),
            asked(*each, 12, 0, 20, other),
            asked(12, 0, 20, kit.device_parameters(), 1, 15),
            asked(12, 0, 20, kit.device_parameters(), 2, 15),
            # Held in a branch that failed, of one component or the other.
            asked(12, 1, 15, [kit.sequence(*first, 20, {5: 1}, 5, 15), kit.sequence()]),
        ],
    )
    assert [answer.startswith("1 0 0 None 0 ") for answer in answers[:4]] == [True] * 4
    assert answers[4:] == ["error wrong-device"] * 6


def nested(depth: int) -> bytes:
    inner = kit.sequence()
    for _ in range(depth):
        inner = kit.sequence(15, [inner, None])
    return inner


def many(count: int) -> bytes:
    return kit.shared(*([5, 15] if not count else [1, 15] * count))


def test_the_largest_manifest_that_is_executed(micropython: str) -> None:
    """Depth, branches, commands, lengths: at their limits, and one more of each."""

    def installing(*before: Any, **more: Any) -> str:
        return question(
            made(m20=kit.sequence(*before, 20, {21: "mqtt:app"}, 21, 2, 3, 15), **more)
        )

    def alone(count: int) -> str:
        """All of it in the install sequence: so many commands are looked at, and as many run."""
        parameters = kit.device_parameters() | kit.image_parameters() | {21: "mqtt:app"}
        commands = [20, parameters, 1, 15, 2, 15, 21, 2] + [3, 15] * (count - 4)
        return question(
            made(m3=kit.pack({2: [kit.APP]}), m7=None, m9=None, m20=kit.sequence(*commands))
        )

    empty = kit.sequence()
    deep, deeper = kit.sequence(15, [nested(2), None]), kit.sequence(15, [nested(3), None])
    asked = {
        installing(15, [nested(2), None]): True,
        installing(15, [nested(3), None]): False,
        installing(m7=deep): True,
        installing(m7=deeper): False,
        installing(m3=kit.pack({2: [kit.APP], 4: kit.shared(15, [nested(2), None])})): True,
        installing(m3=kit.pack({2: [kit.APP], 4: kit.shared(15, [nested(3), None])})): False,
        installing(15, [empty] * 8): True,
        installing(15, [empty] * 7 + [None]): True,
        installing(15, [empty] * 8 + [None]): False,
        alone(128): True,
        alone(129): False,
        # Those in branches that are not taken are counted as well.
        installing(15, [kit.sequence(*[1, 15] * 12)] * 8): True,
        installing(15, [kit.sequence(*[1, 15] * 16)] * 8): False,
        installing(20, {21: "x" * 256}): True,
        installing(20, {21: "x" * 257}): False,
        installing(20, {19: bytes(64)}): True,
        installing(20, {19: bytes(65)}): False,
        installing(20, {-1: 1}): True,
        installing(12, [0]): True,
        installing(12, [0, 0, 0, 0], 12, 0): True,
    }
    answers = ask(micropython, list(asked))
    for answer, good in zip(answers, asked.values(), strict=True):
        assert answer.startswith("1 0 " if good else "error suit-limit")


# 585 commands of which five would run, in 2 KB: it is the count of all that refuses it, and not
# the envelope's size.
BOMB = kit.sequence(15, [kit.sequence(15, [kit.sequence(15, [kit.sequence(1, 15)] * 8)] * 8)] * 8)
assert len(BOMB) < 4096


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("suit-unsupported", {"m1": 2}),
        ("suit-malformed", {"m1": None}),
        ("suit-malformed", {"m2": None}),
        ("suit-malformed", {"m3": None}),
        # A value of another type is the manifest's fault, wherever it stands; bytes that are no
        # CBOR are not.
        ("suit-malformed", {"m1": True}),
        ("suit-malformed", {"m1": 1.0}),
        ("suit-malformed", {"m2": "1"}),
        ("suit-malformed", {"m2": -1}),
        ("suit-malformed", {"m3": {2: [kit.APP]}}),
        ("suit-malformed", {"m3": kit.pack([kit.APP])}),
        ("suit-malformed", {"m3": kit.pack({"2": [kit.APP]})}),
        ("suit-malformed", {"m3": kit.pack({2: b"app", 4: kit.shared()})}),
        ("suit-malformed", {"m3": kit.pack({2: [b"app"], 4: kit.shared()})}),
        ("suit-malformed", {"m3": kit.pack({2: [["app"]], 4: kit.shared()})}),
        ("suit-malformed", {"m3": kit.pack({2: [kit.APP], 4: [1, 15]})}),
        ("suit-malformed", {"m7": [3, 15]}),
        ("suit-malformed", {"m7": kit.pack({3: 15})}),
        ("suit-malformed", {"m20": [-16.0, bytes(32)]}),
        ("suit-malformed", {"m20": [-16, "x"]}),
        ("suit-malformed", {"m20": 1}),
        ("suit-malformed", {"m23": "text"}),
        ("suit-malformed", {"m4": b"https://example.com"}),
        ("suit-malformed", {"install": kit.sequence("21", 2)}),
        ("suit-malformed", {"install": kit.install(3, True)}),
        ("suit-malformed", {"install": kit.install(3, -1)}),
        ("suit-malformed", {"install": kit.install(12, None)}),
        ("suit-malformed", {"install": kit.install(12, "0")}),
        ("suit-malformed", {"install": kit.install(12, [True])}),
        ("suit-malformed", {"install": kit.install(15, kit.install())}),
        ("suit-malformed", {"install": kit.install(15, [[1, 15], kit.sequence()])}),
        ("suit-malformed", {"install": kit.install(20, [])}),
        ("suit-malformed", {"install": kit.install(20, {"21": "x"})}),
        ("suit-malformed", {"install": kit.install(20, {1: "x"})}),
        ("suit-malformed", {"install": kit.install(20, {3: kit.digest(b"x")})}),
        ("suit-malformed", {"install": kit.install(20, {3: kit.pack({-16: b""})})}),
        ("suit-malformed", {"install": kit.install(20, {5: True})}),
        ("suit-malformed", {"install": kit.install(20, {14: 1.0})}),
        ("suit-malformed", {"install": kit.install(20, {19: "x"})}),
        ("suit-unsupported", {"m3": kit.pack({4: kit.shared()})}),
        ("suit-unsupported", {"m3": kit.pack({1: {}, 2: [kit.APP], 4: kit.shared()})}),
        ("suit-limit", {"m3": kit.pack({2: [], 4: kit.shared()})}),
        ("suit-limit", {"m3": kit.pack({2: [[bytes((n,))] for n in range(5)], 4: kit.shared()})}),
        ("suit-limit", {"m3": kit.pack({2: [[b"a"] * 5], 4: kit.shared()})}),
        ("suit-component", {"m3": kit.pack({2: [[b"other"]], 4: kit.shared()})}),
        ("suit-component", {"m3": kit.pack({2: [kit.APP, kit.APP], 4: kit.shared()})}),
        # Members and commands that we don't know: payload fetch, dependencies, a custom one.
        ("suit-unsupported", {"m16": kit.install()}),
        ("suit-unsupported", {"m15": kit.install()}),
        ("suit-unsupported", {"m5": [b"x"]}),
        ("suit-unsupported", {"install": kit.install(22, 2)}),
        ("suit-unsupported", {"install": kit.install(31, 2)}),
        ("suit-unsupported", {"install": kit.install(32, kit.sequence())}),
        ("suit-unsupported", {"install": kit.install(-1, 0)}),
        ("suit-unsupported", {"install": kit.install(14, 15)}),
        ("suit-unsupported", {"install": kit.install(24, 15)}),
        # In a branch that is never taken as well.
        ("suit-unsupported", {"install": kit.install(15, [kit.sequence(), kit.sequence(22, 2)])}),
        # No command has the number 0.
        ("suit-unsupported", {"shared": kit.shared(0, 15)}),
        ("suit-unsupported", {"m7": kit.sequence(0, 15)}),
        # A directive out of its place.
        ("suit-unsupported", {"install": kit.install(23, 2)}),
        ("suit-unsupported", {"m7": kit.install()}),
        ("suit-unsupported", {"m8": kit.sequence(23, 2)}),
        ("suit-unsupported", {"m9": kit.sequence(21, 2)}),
        ("suit-unsupported", {"shared": kit.shared(21, 2)}),
        # Parameters that we don't know, or of a wrong form.
        ("suit-unsupported", {"install": kit.install(20, {18: b""})}),
        ("suit-limit", {"install": kit.install(20, {19: bytes(65)})}),
        ("suit-unsupported", {"install": kit.install(20, {13: True})}),
        ("suit-unsupported", {"install": kit.install(20, {-2: 0})}),
        ("suit-malformed", {"install": kit.install(20, {1: bytes(15)})}),
        ("suit-malformed", {"install": kit.install(20, {3: kit.pack([-16, bytes(31)])})}),
        ("suit-malformed", {"install": kit.install(20, {3: kit.pack([-16])})}),
        ("cbor-malformed", {"install": kit.install(20, {3: kit.pack(kit.digest(b"x")) + b"\0"})}),
        ("suit-unsupported", {"install": kit.install(20, {3: kit.pack([-44, bytes(64)])})}),
        ("suit-malformed", {"install": kit.install(20, {21: b"mqtt:app"})}),
        ("suit-limit", {"install": kit.install(20, {21: "x" * 257})}),
        ("suit-limit", {"install": kit.install(20, {14: 1 << 32})}),
        ("suit-malformed", {"install": kit.install(20, {14: -1})}),
        # Shapes of a sequence.
        ("suit-malformed", {"install": kit.sequence(21)}),
        ("suit-malformed", {"install": kit.install(3, 16)}),
        ("suit-malformed", {"install": kit.install(12, 1)}),
        ("suit-malformed", {"install": kit.install(12, False)}),
        ("suit-limit", {"install": kit.install(12, [])}),
        ("suit-limit", {"install": kit.install(12, [0] * 5)}),
        ("suit-limit", {"install": kit.install(15, [kit.sequence()])}),
        ("suit-limit", {"install": kit.install(15, [kit.sequence()] * 9)}),
        ("suit-malformed", {"install": kit.install(15, [None, kit.sequence()])}),
        ("cbor-malformed", {"install": kit.pack([21, 2])[:-1]}),
        ("cbor-malformed", {"install": kit.install() + b"\0"}),
        ("cbor-malformed", {"install": kit.install(15, [kit.install() + b"\0", None])}),
        # Bounds on work.
        ("suit-limit", {"install": kit.install(15, [nested(3), None])}),
        ("suit-limit", {"shared": many(70)}),
        ("suit-limit", {"shared": many(40)}),
        ("suit-limit", {"m8": BOMB}),
        # Conditions.
        ("suit-condition", {"install": kit.install(20, {5: 1}, 5, 15)}),
        ("suit-condition", {"install": kit.sequence(20, {21: "x", 5: 1}, 21, 2)}),
        ("suit-condition", {"install": kit.sequence(20, {21: "x"}, 3, 15, 21, 2)}),
        ("suit-condition", {"install": kit.install(20, kit.image_parameters(b"x"), 3, 15)}),
        ("suit-condition", {"install": kit.install(15, [kit.sequence(20, {5: 1}, 5, 15)] * 2)}),
        # No parameter says how to check it, how large it is, or where it is.
        ("suit-condition", {"install": kit.sequence(21, 2)}),
        ("suit-condition", {"shared": kit.sequence(20, kit.device_parameters(), 1, 15, 2, 15)}),
        (
            "suit-condition",
            {
                "shared": kit.shared()[:0]
                + kit.sequence(
                    20, kit.device_parameters() | {3: kit.pack(kit.digest(b"x"))}, 1, 15, 2, 15
                )
            },
        ),
        # Nothing, or too much, is fetched.
        # The validate sequence then asks for an image that is not there.
        ("suit-condition", {"install": None}),
        ("suit-component", {"install": None, "m7": None}),
        ("suit-unsupported", {"install": kit.install(21, 2)}),
        ("suit-malformed", {"install": kit.install(20, {-1: 2})}),
        ("suit-unsupported", {"blocks": 0}),
        ("suit-unsupported", {"blocks": 2}),
        ("cose-malformed", {"header": {5: bytes(13)}}),
        ("suit-unsupported", {"beside": {"#app": kit.IMAGE[:10]}}),
        ("suit-unsupported", {"beside": {16: kit.install()}}),
        ("suit-unsupported", {"beside": {1: b""}}),
        ("suit-digest", {"beside": {20: kit.install()}}),
        ("suit-digest", {"beside": {23: b"text"}}),
        ("suit-digest", {"m20": kit.digest(b"x"), "beside": {20: kit.install()}}),
        # Over the sequence without the head of its byte string: not what the draft says.
        ("suit-digest", {"m20": kit.digest(kit.install()), "beside": {20: kit.install()}}),
        ("suit-condition", {"m20": kit.digest(kit.pack(kit.install()))}),
        ("suit-limit", {"m23": bytes(8192)}),
        # Numbers and depths just above what is taken.
        ("suit-unsupported", {"m1": 255}),
        ("suit-limit", {"m1": 256}),
        ("suit-unsupported", {"m99": [[[[1]]]]}),
        ("cbor-limit", {"m99": [[[[[1]]]]]}),
    ],
)
def test_refused(micropython: str, code: str, changes: dict[str, Any]) -> None:
    changes = {name: value for name, value in changes.items() if name != "install"} | (
        {"m20": changes["install"]} if "install" in changes else {}
    )
    assert ask_one(micropython, made(**changes)) == "error " + code


def test_a_wrapper_of_another_form(micropython: str) -> None:
    envelope = cbor2.loads(made())
    wrapper = cbor2.loads(envelope.value[2])

    def again(parts: Any, tag: int = 107, **more: Any) -> bytes:
        return kit.pack(cbor2.CBORTag(tag, {2: kit.pack(parts), 3: envelope.value[3]}))

    mac = kit.pack(cbor2.CBORTag(17, [b"", {}, None, b""]))
    asked = {
        again(wrapper): GOOD,
        again(wrapper, 108): "error suit-malformed",
        made()[2:]: "error suit-malformed",
        kit.pack(cbor2.CBORTag(107, {3: envelope.value[3]})): "error suit-malformed",
        kit.pack(cbor2.CBORTag(107, {2: envelope.value[2]})): "error suit-malformed",
        again([wrapper[0], mac]): "error suit-unsupported",
        again([wrapper[0], wrapper[1][1:]]): "error suit-unsupported",
        again([kit.pack([-16, bytes(32)]), wrapper[1]]): "error suit-digest",
        again([kit.pack([-16, bytes(31)]), wrapper[1]]): "error suit-malformed",
        again([kit.pack([-44, bytes(64)]), wrapper[1]]): "error suit-unsupported",
    }
    assert ask(micropython, [question(one) for one in asked]) == list(asked.values())


def test_severed_elements(micropython: str) -> None:
    install, text = kit.install(), kit.pack({"en": {}})
    m20, m23 = kit.digest(kit.pack(install)), kit.digest(kit.pack(text))
    asked = [
        question(made(m20=m20, beside={20: install})),
        question(made(m20=m20, m23=m23, beside={20: install, 23: text})),
        question(made(m23=m23)),  # a text that was left out is not missed
        question(made(m23=text)),
        question(made(m4="https://example.com/manifest")),
    ]
    assert ask(micropython, asked) == [GOOD] * 5


def test_the_largest_envelope(micropython: str) -> None:
    """A text fills it up: 8,192 bytes, and one more."""
    sizes = {}
    for size in (8192, 8193):
        rest = len(made(m23=bytes(6000))) - 6000
        sizes[size] = made(m23=bytes(size - rest))
        assert len(sizes[size]) == size
    assert ask(micropython, [question(one) for one in sizes.values()]) == [
        GOOD,
        "error suit-limit",
    ]


def test_bytes_left_over(micropython: str) -> None:
    """Behind the manifest and behind the signature: signed by the right key, or not at all."""
    envelope = cbor2.loads(made())
    wrapper = envelope.value[2]
    more = kit.pack(cbor2.CBORTag(107, {2: wrapper + b"\0", 3: envelope.value[3]}))
    assert ask_one(micropython, signed_bytes(kit.pack(kit.manifest()))) == GOOD
    asked = [question(signed_bytes(kit.pack(kit.manifest()) + b"\0")), question(more)]
    assert ask(micropython, asked) == ["error cbor-malformed"] * 2


def test_as_many_components_as_can_be(micropython: str) -> None:
    """Four, each with an identifier of four parts."""
    names = [[b"a", b"b", b"c", bytes((number,))] for number in range(4)]
    common = kit.sequence(
        *(12, True, 20, kit.device_parameters() | kit.image_parameters(), 1, 15, 2, 15)
    )
    install = kit.sequence(12, [0, 1, 2, 3], 20, {21: "a"}, 21, 2, 3, 15)
    asked = made(m3=kit.pack({2: names, 4: common}), m9=None, m20=install)
    answer = ask_one(micropython, asked, components=kit.components(*names))
    assert answer.startswith("1 0 0 None 0 ")
    assert answer.count(kit.sha256(kit.IMAGE).hex()) == 4


def test_several_components(micropython: str) -> None:
    """Two images, each with parameters of its own, and indices as a number, a list and true."""
    other = b"other image"
    names = [kit.APP, [b"data", b"1"]]
    common = kit.sequence(
        *(12, True, 20, kit.device_parameters(), 1, 15, 2, 15),
        *(12, 0, 20, kit.image_parameters(), 12, 1, 20, kit.image_parameters(other)),
    )
    install = kit.sequence(
        *(12, 0, 20, {21: "a"}, 12, 1, 20, {21: "b"}, 12, [1, 0], 21, 2, 12, True, 3, 15),
    )
    one = {"m3": kit.pack({2: names, 4: common}), "m7": kit.sequence(12, True, 3, 15)}
    swapped = {"m3": kit.pack({2: names[::-1], 4: common})}
    images = [
        f"{{}} {kit.sha256(other).hex()} {len(other)} 62",
        f"{{}} {kit.sha256(kit.IMAGE).hex()} {len(kit.IMAGE)} 61",
    ]
    partial = kit.sequence(12, 0, 20, {21: "a"}, 21, 2)
    own = {"components": kit.components(*names)}
    asked = [
        question(made(**one, m20=install), **own),
        question(made(**one | swapped, m20=install), **own),
        # One of two would leave a slot that mixes two releases.
        question(made(**one | {"m7": None}, m20=partial), **own),
        question(made(), **own),
    ]
    assert ask(micropython, asked) == [
        "1 0 0 0 " + " ".join(images).format(1, 0),
        "1 0 0 1 " + " ".join(images).format(0, 1),
        "error suit-component",
        "error suit-component",
    ]


def test_branches_of_several_components(micropython: str) -> None:
    """Each goes through them by itself, and what follows is for all of them again."""
    names = [kit.APP, [b"data"]]
    common = kit.sequence(
        *(12, True, 20, kit.device_parameters() | kit.image_parameters(), 1, 15, 2, 15),
        *(12, 0, 20, {5: 0}, 12, 1, 20, {5: 1}),
    )
    first, second = kit.sequence(5, 15, 20, {21: "1"}), kit.sequence(20, {21: "2", 5: 0})
    install = kit.sequence(12, True, 15, [first, second], 21, 2, 3, 15)
    asked = made(m3=kit.pack({2: names, 4: common}), m7=None, m9=None, m20=install)
    image = f"{kit.sha256(kit.IMAGE).hex()} {len(kit.IMAGE)}"
    answer = ask_one(micropython, asked, components=kit.components(*names))
    assert answer == f"1 0 0 None 0 {image} {b'1'.hex()} 1 {image} {b'2'.hex()}"


def test_an_image_that_is_not_described(micropython: str) -> None:
    """Digest, size and address: none of them may be missing where it is fetched."""
    whole = kit.image_parameters() | {21: "mqtt:app"}
    common = kit.sequence(20, kit.device_parameters(), 1, 15, 2, 15)

    def asked(parameters: dict[int, Any]) -> str:
        install = kit.sequence(20, parameters, 21, 2)
        return question(
            made(m3=kit.pack({2: [kit.APP], 4: common}), m7=None, m9=None, m20=install)
        )

    assert ask(micropython, [asked(whole)])[0].startswith("1 0 0 None 0 ")
    for missing in whole:
        rest = {label: value for label, value in whole.items() if label != missing}
        assert ask(micropython, [asked(rest)]) == ["error suit-condition"]


def test_an_image_that_the_slot_holds_already(micropython: str) -> None:
    """A branch may ask whether the image is there; what is not fetched is no update."""
    install = kit.sequence(
        15, [kit.sequence(3, 15), kit.sequence(20, {21: "mqtt:app"}, 21, 2, 3, 15)]
    )
    held = kit.sha256(kit.IMAGE)
    asked = [question(made(m20=install)), question(made(m20=install), held=held)]
    assert ask(micropython, asked) == [GOOD, "error suit-component"]


def test_a_failed_branch_leaves_no_trace(micropython: str) -> None:
    failing = kit.sequence(20, {21: "wrong", -1: 1}, 21, 2, 20, {5: 1}, 5, 15)
    install = kit.sequence(20, {21: "mqtt:app"}, 15, [failing, kit.sequence()], 21, 2, 3, 15)
    assert ask_one(micropython, made(m20=install)) == GOOD


def test_the_floor(micropython: str) -> None:
    answer = ask_one(micropython, made(number=9, m20=kit.install(20, {-1: 7})))
    assert answer.split()[:3] == ["9", "0", "7"]
    # As high as the manifest itself, and no higher.
    assert ask_one(micropython, made(number=9, m20=kit.install(20, {-1: 9}))).startswith("9 0 9 ")
    assert ask_one(micropython, made(number=9, m20=kit.install(20, {-1: 10}))) == (
        "error suit-malformed"
    )


def test_garbage_inside_a_good_signature(micropython: str) -> None:
    """The holder of the key can still make mistakes: any bytes for a manifest end in a named
    error."""
    rng = random.Random(7)
    good = kit.pack(kit.manifest())
    asked = []
    for _ in range(400):
        body = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        asked.append(
            question(
                signed_bytes(bytes(body[: rng.choice((len(body), rng.randrange(1, len(body))))]))
            )
        )
    answers = ask(micropython, asked)
    assert all(answer.startswith(("error ", "1 0 ")) for answer in answers), answers


def signed_bytes(body: bytes) -> bytes:
    signed = kit.pack(kit.digest(kit.pack(body)))
    protected = kit.pack({1: -7})
    block = cbor2.CBORTag(
        18, [protected, {}, None, SIGN(kit.pack(["Signature1", protected, b"", signed]))]
    )
    return kit.pack(cbor2.CBORTag(107, {2: kit.pack([signed, kit.pack(block)]), 3: body}))
