"""Generates signed SUIT manifests, good ones and mutations of them, and asks both sides for
verdict and plan.

A manifest is a tree of Python values in which Wrapped(x) is a byte string that holds the CBOR of
x, so that a mutation reaches every item, however deep it is wrapped.
"""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import suit_kit as kit
from cryptography.hazmat.primitives.asymmetric import ec
from warden_client.protocol import strictcbor
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, Address
from warden_host.release import inspect as inspecting
from warden_host.release import payload
from warden_host.release.manifest_plan import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cpython"))

import both  # noqa: E402  (the path must be set first)

KEY = ec.derive_private_key(0x1234567, ec.SECP256R1())
SIGN = kit.ecdsa(KEY)
CEK = bytes(range(32))
SHARED_KEY = bytes(range(100, 132))
INFO = payload.encryption_info(CEK)
OTHER_INFO = payload.encryption_info(bytes(32))
VENDORS = (kit.VENDOR, bytes(16))
CLASSES = (kit.CLASS, b"\xff" * 16)
NAMES = (b"app", b"data", b"firmware", b"more")
SEQUENCES = (7, 8, 9, 20)


@dataclass
class Wrapped:
    """A byte string that holds the encoding of a value."""

    value: Any


@dataclass(frozen=True)
class Case:
    """An envelope and the device that is asked. components: identifiers of the device."""

    envelope: bytes
    components: tuple[tuple[bytes, ...], ...]
    target: Target

    def host(self) -> str:
        """Return the host's verdict and plan, in the form of answers.ask_order."""
        try:
            parsed = inspecting.authentic(self.envelope, [KEY.public_key()])
        except HostError:
            return "refused"
        plan = dict(parsed.plans).get(self.target)
        own = {"/".join(part.decode() for part in parts) for parts in self.components}
        if plan is None or set(parsed.components) != own:
            return "refused"
        encrypted = [one for one in plan.images if one.encryption is not None]
        if any(one.encryption != INFO for one in encrypted):
            return "refused"  # as inspecting.check_image() does, with the release's key
        words = [parsed.draft.digest.hex(), parsed.sequence, plan.floor, plan.invoke or "-"]
        words.append(CEK.hex() if encrypted else "-")
        for one in plan.images:
            words += [one.component, one.digest.hex(), one.size, one.uri.encode().hex() or "-"]
            words.append(one.encryption.hex() if one.encryption else "-")
        return " ".join(map(str, words))

    def question(self) -> str:
        digest = manifest_digest(self.envelope)
        wrapped = payload.wrap(CEK, SHARED_KEY, Address("relay", "r1", AUTHORITY), digest)
        target = self.target
        return both.line(
            "order",
            kit.public_of(KEY),
            *(target.vendor, target.class_id, bytes([target.slot])),
            kit.components(*self.components),
            *(SHARED_KEY, wrapped, self.envelope),
        )


def manifest_digest(envelope: bytes) -> bytes:
    """The SUIT digest of an envelope's manifest, or zeros."""
    try:
        return kit.sha256(strictcbor.encode(strictcbor.decode(envelope[2:])[3]))
    except (HostError, KeyError, TypeError):
        return bytes(32)


def verdict(answer: str) -> str:
    """Return an answer of the device in the form of Case.host()."""
    return "refused" if answer.startswith("error ") else answer


def disagreements(cases: list[Case], answers: list[str]) -> list[tuple[Case, str, str]]:
    """Return (case, host's answer, device's answer) where the two differ."""
    asked = zip(cases, answers, strict=True)
    said = [(case, case.host(), answer) for case, answer in asked]
    return [(case, host, answer) for case, host, answer in said if host != verdict(answer)]


class Generator:
    """Makes cases out of one seed, the same ones each time."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def cases(self, manifests: int) -> Iterator[Case]:
        for _ in range(manifests):
            yield from self._manifest()

    def _manifest(self) -> Iterator[Case]:
        rng = self._rng
        count = rng.choice((1, 1, 2, 2, 3, 4))
        self._names = [(name,) for name in NAMES[:count]]
        if rng.random() < 0.1:
            self._names = [(*name, b"1") for name in self._names]
        members, beside = self._good()
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            self._mutate(members)
        envelope = self._envelope(members, beside)
        own = tuple(self._names)
        if rng.random() < 0.05:
            own = own[:-1] or ((b"other",),)
        yield Case(envelope, own, Target(kit.VENDOR, kit.CLASS, 0))
        yield Case(envelope, own, Target(kit.VENDOR, kit.CLASS, 1))
        other = Target(rng.choice(VENDORS), rng.choice(CLASSES), rng.randrange(3))
        if other.slot == 2:  # a slot that no device has
            other = Target(other.vendor, other.class_id, rng.randrange(2))
        yield Case(envelope, own, other)

    # -- good manifests -----------------------------------------------------------------------

    def _good(self) -> tuple[dict[Any, Any], dict[int, Any]]:
        rng = self._rng
        shared, install = self._sequences()
        members: dict[Any, Any] = {
            1: 1,
            2: rng.choice((1, 2, 9, 24, (1 << 32) - 1)),
            3: Wrapped({2: [list(name) for name in self._names], 4: Wrapped(shared)}),
            20: Wrapped(install),
        }
        if not shared:
            del members[3].value[4]
        if rng.random() < 0.8:
            members[7] = Wrapped([12, True, 3, 15])
        if rng.random() < 0.8:
            members[9] = Wrapped([12, rng.randrange(len(self._names)), 23, 2])
        if rng.random() < 0.2:
            members[8] = Wrapped([])
        if rng.random() < 0.2:
            members[4] = "https://example.com/manifest"
        beside: dict[int, Any] = {}
        if rng.random() < 0.2:
            members[23] = Wrapped({"en": {}})
        return members, beside

    def _sequences(self) -> tuple[list[Any], list[Any]]:
        """(shared, install) in one of several styles."""
        rng = self._rng
        style = rng.choice(("each", "each", "once", "slots", "classes", "alone"))
        identity = {1: kit.VENDOR, 2: kit.CLASS}
        shared: list[Any] = []
        install: list[Any] = []
        for index in range(len(self._names)):
            at = [12, index]
            image = {3: Wrapped([-16, bytes([index]) * 32]), 14: 1000 + index}
            where: dict[int, Any] = {21: f"mqtt:{index}"}
            if rng.random() < 0.3:
                where[19] = INFO
            check = [1, 15, 2, 15]
            if style == "once" and index:
                shared += [*at, 20, image]
            elif style == "classes":
                own = [20, identity, *check]
                other = [20, identity | {2: CLASSES[1]}, *check, 20, {14: 77}]
                shared += [*at, 20, image, 15, [Wrapped(own), Wrapped(other)]]
            elif style != "alone":
                shared += [*at, 20, identity | image, *check]
            if style == "alone":
                install += [*at, 20, identity | image | where, *check, 21, 2, 3, 15]
            elif style == "slots":
                branches = [
                    Wrapped([20, {5: slot, 21: f"mqtt:{slot}", 14: 10 + slot}, 5, 15])
                    for slot in (0, 1)
                ]
                install += [*at, 15, branches, 21, 2, 3, 15]
            else:
                install += [*at, 20, where, 21, 2, 3, 15]
        if rng.random() < 0.3:
            rng.choice((shared, install))[:0] = [20, {-1: 1}]
        return shared, install

    # -- mutations ----------------------------------------------------------------------------

    def _mutate(self, members: dict[Any, Any]) -> None:
        places = list(_places(members))
        sequences = [
            members[label].value
            for label in SEQUENCES
            if isinstance(members.get(label), Wrapped) and isinstance(members[label].value, list)
        ]
        common = members.get(3)
        if isinstance(common, Wrapped) and isinstance(common.value, dict):
            shared = common.value.get(4)
            if isinstance(shared, Wrapped) and isinstance(shared.value, list):
                sequences += [shared.value] * 2
        rng = self._rng
        if sequences and rng.random() < 0.8:
            sequence = rng.choice([*sequences, *_branches(sequences)])
            at = 2 * rng.randint(0, len(sequence) // 2)
            choice = rng.random()
            if choice < 0.75 or len(sequence) < 4:
                sequence[at:at] = self._command(0)
            elif choice < 0.85:
                del sequence[at : at + 2]
            else:
                moved = sequence[at : at + 2]
                del sequence[at : at + 2]
                to = rng.choice(sequences)
                place = 2 * rng.randint(0, len(to) // 2)
                to[place:place] = moved
            return
        holder, key = rng.choice(places)
        choice = rng.random()
        if choice < 0.55:
            _put(holder, key, self._odd(_at(holder, key)))
        elif choice < 0.75 and isinstance(holder, dict | list):
            del holder[key]
        elif choice < 0.85 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif isinstance(holder, dict):
            holder[rng.choice((0, 1, 2, 5, 13, 16, 18, 23, "1", -1, -2, 99))] = holder[key]

    def _command(self, depth: int) -> list[Any]:
        rng = self._rng
        label = rng.choice((1, 2, 3, 5, 12, 12, 12, 15, 15, *[20] * 10, 21, 23))
        if rng.random() < 0.03:
            label = rng.choice((4, 13, 14, 22, 24, 32, -1))
        if label == 12:
            last = len(self._names) - 1
            indices = [0, last, last, True, True, [0], list(range(last + 1)), [last, 0]]
            return [
                12,
                rng.choice(indices if rng.random() < 0.95 else (last + 1, [], [0] * 5, False)),
            ]
        if label == 15 and depth < 3:
            branches: list[Any] = [
                Wrapped(
                    [word for _ in range(rng.randrange(4)) for word in self._command(depth + 1)]
                )
                for _ in range(rng.randint(2, 3) if rng.random() < 0.95 else rng.choice((0, 1, 9)))
            ]
            if rng.random() < 0.5:
                branches.append(None)
            elif rng.random() < 0.05:
                branches.insert(0, None)
            return [15, branches]
        if label in (15, 20):
            return [20, dict(self._parameter() for _ in range(rng.randint(0, 3)))]
        return [label, rng.choice((0, 2, 15)) if rng.random() < 0.97 else 16]

    def _parameter(self) -> tuple[Any, Any]:
        rng = self._rng
        odd = rng.random() < 0.05
        label = rng.choice((13, -2, 18) if odd else (1, 2, 3, 5, 5, 5, 14, 19, 21, 21, -1, -1, -1))
        values: dict[int, tuple[Any, ...]] = {
            1: (kit.VENDOR, kit.VENDOR, VENDORS[1]),
            2: (kit.CLASS, kit.CLASS, CLASSES[1]),
            3: (Wrapped([-16, b"\xaa" * 32]), Wrapped([-16, b"\0" * 32])),
            5: (0, 1, 0, 1, 2),
            14: (5, 6, (1 << 32) - 1, 0),
            19: (INFO, INFO, OTHER_INFO),
            21: ("mqtt:other", "https://example.com/x", "ü" * 128, ""),
            -1: (0, 1, 1, 2),
        }
        if rng.random() < 0.05:
            values = {
                1: (bytes(15),),
                2: (bytes(17),),
                3: (
                    Wrapped([-16.0, bytes(32)]),
                    Wrapped([-16, bytes(31)]),
                    Wrapped([-44, bytes(32)]),
                ),
                14: (1 << 32,),
                19: (INFO[:-1], b"", bytes(64), bytes(65)),
                21: ("x" * 257, b"x"),
                -1: (9, 1 << 32),
            }
        return label, rng.choice(values.get(label, (0,)))

    def _odd(self, value: Any) -> Any:
        """A value in another one's place: near it, or of another type."""
        rng = self._rng
        near: list[Any] = []
        if type(value) is int:
            near = [value + 1, value - 1, float(value), -value, value + 256, 1 << 32, bool(value)]
        elif isinstance(value, bytes):
            near = [value[:-1], value + b"\0", b"", value[::-1]]
        elif isinstance(value, str):
            near = [value + "x", "", value.encode(), "x" * 257]
        elif isinstance(value, Wrapped):
            near = [
                value.value,
                Wrapped(value),
                Wrapped([value.value]),
                kit.digest(encoded(value)),
            ]
        elif isinstance(value, list):
            near = [[], value[::-1], value[:1], value * 2, dict(enumerate(value))]
        return rng.choice([*near, *near, 0, 1, True, None, 1.0, b"", "x", [], {}, -16.0])

    def _envelope(self, members: dict[Any, Any], beside: dict[int, Any]) -> bytes:
        rng = self._rng
        plain = {label: unwrapped(value) for label, value in members.items()}
        for label in (20, 23):
            if isinstance(plain.get(label), bytes) and rng.random() < 0.15:
                content = plain[label]
                beside[label] = content
                plain[label] = kit.digest(kit.pack(content))
                if rng.random() < 0.3:
                    beside[label] = rng.choice((b"", content + b"\0", 1, None))
                    if beside[label] is None:
                        del beside[label]
                if rng.random() < 0.1:
                    del plain[label]
        body = kit.pack(plain)
        if rng.random() < 0.05:
            changed = bytearray(body)
            changed[rng.randrange(len(changed))] = rng.randrange(256)
            body = bytes(changed)
        alg = rng.choice((-7, -7, -7, -7, -7, -7, -9))
        header = {1: alg} | self._header()
        signed = kit.pack(kit.digest(kit.pack(body)))
        protected = kit.pack(header)
        signature = SIGN(kit.pack(["Signature1", protected, b"", signed]))
        block = kit.pack(cbor2.CBORTag(18, [protected, {}, None, signature]))
        wrapper = kit.pack([signed, block])
        return kit.pack(cbor2.CBORTag(107, {2: wrapper, 3: body} | beside))

    def _header(self) -> dict[Any, Any]:
        rng = self._rng
        if rng.random() < 0.93:
            return {}
        return rng.choice(
            (
                *({4: b"8 bytes!"}, {4: b"7 bytes"}, {4: "8 bytes!"}, {2: [1]}, {2: [1, 2]}),
                *({2: [4]}, {2: []}, {2: [True]}, {2: [1] * 9}, {5: bytes(13)}, {1: True}),
                *({1: -8}, {1: -37}, {1: -7.0}, {3: 0}, {"1": 1}, {10: bytes(8)}, {6: b"\1"}),
            )
        )


def unwrapped(value: Any) -> Any:
    """Return a tree with its Wrapped encoded."""
    if isinstance(value, Wrapped):
        return kit.pack(unwrapped(value.value))
    if isinstance(value, list):
        return [unwrapped(one) for one in value]
    if isinstance(value, dict):
        return {key: unwrapped(one) for key, one in value.items()}
    return value


def encoded(value: Any) -> bytes:
    return kit.pack(unwrapped(value))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of each item in a tree."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    elif isinstance(value, Wrapped):
        keys = ["value"]
    for key in keys:
        yield value, key
        yield from _places(_at(value, key))


def _branches(sequences: list[Any]) -> list[Any]:
    """The sequences inside these."""
    return [
        value.value
        for sequence in sequences
        for _, value in ((key, _at(holder, key)) for holder, key in _places(sequence))
        if isinstance(value, Wrapped) and isinstance(value.value, list)
    ]


def _at(holder: Any, key: Any) -> Any:
    return holder.value if isinstance(holder, Wrapped) else holder[key]


def _put(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, Wrapped):
        holder.value = value
    else:
        holder[key] = value
