"""Verify that host and device give the same verdict and plan for the same manifests."""

import json
import sys
from pathlib import Path
from typing import Any

import manifest_kit as grammar
import pytest
import suit_kit as kit
from cli_kit import fails
from host_kit import refused
from manifest_kit import Case
from release_kit import Maker, cheap
from warden_host.cli import main
from warden_host.errors import HostError
from warden_host.release import inspect, manifest_reader, release, signing_key
from warden_host.release.manifest_plan import Target
from warden_host.release.opened import open_release

sys.path.append(str(Path(__file__).resolve().parents[2] / "fuzz"))

import manifests as fuzz_manifests  # noqa: E402  (the path must be set first)

SIGN = grammar.SIGN
OTHER = b"another image"
MANIFESTS = 160  # three devices each


def made(header: dict[int, Any] | None = None, **changes: Any) -> bytes:
    return kit.envelope(kit.manifest(**changes), SIGN, header=header)


def answers(micropython: str, envelope: bytes, *components: list[bytes]) -> list[str]:
    """What both sides say, for a device whose free slot is 0 and one whose free slot is 1."""
    own = tuple(tuple(parts) for parts in components or (kit.APP,))
    cases = [Case(envelope, own, Target(kit.VENDOR, kit.CLASS, slot)) for slot in (0, 1)]
    questions = [case.question() for case in cases]
    said = grammar.both.port(micropython, questions)
    assert said == grammar.both.here(questions)
    assert grammar.disagreements(cases, said) == []
    return [case.host() for case in cases]


def planned(image: bytes, uri: str) -> str:
    return f" app {kit.sha256(image).hex()} {len(image)} {uri.encode().hex()} -"


def parsed_of(**changes: Any) -> manifest_reader.Parsed:
    return manifest_reader.parse(made(**changes))


# What an owner could be shown, and a device would not do


SHOWN = kit.image_parameters(OTHER) | {21: "mqtt:shown", -1: 0}
FETCH = (20, {21: "mqtt:app"}, 21, 2, 3, 15)


@pytest.mark.parametrize(
    "changes",
    [
        {"install": kit.install(20, SHOWN)},
        {"m7": kit.sequence(3, 15, 20, SHOWN)},
        {"m8": kit.sequence(20, SHOWN), "m7": None},
        {"m9": kit.sequence(20, SHOWN, 23, 2), "m7": None},
        {"install": kit.install(15, [kit.sequence(20, SHOWN), None])},
        {"install": kit.sequence(15, [kit.sequence(*FETCH), None], 20, SHOWN)},
        {
            "install": kit.sequence(
                20, SHOWN, 15, [kit.sequence(20, kit.image_parameters(), *FETCH), None]
            )
        },
        {"install": kit.sequence(15, [kit.sequence(20, SHOWN, 21, 2, 5, 15), kit.install()])},
    ],
)
def test_an_image_that_is_fetched_and_no_other(micropython: str, changes: dict[str, Any]) -> None:
    """Parameters that are set after the fetch, or in a branch that is left, describe nothing."""
    for said in answers(micropython, made(**changes)):
        assert said.endswith(planned(kit.IMAGE, "mqtt:app"))
    image = parsed_of(**changes).images[0]
    assert (image.digest, image.size, image.uri) == (
        kit.sha256(kit.IMAGE),
        len(kit.IMAGE),
        "mqtt:app",
    )


@pytest.mark.parametrize(
    ("floor", "changes"),
    [
        (5, {"install": kit.install(20, {-1: 5})}),
        (2, {"install": kit.install(20, {-1: 5}, 20, {-1: 2})}),
        (2, {"install": kit.install(20, {-1: 5}), "m9": kit.sequence(20, {-1: 2}, 23, 2)}),
        (0, {"install": kit.install(20, {-1: 5}), "m7": kit.sequence(3, 15, 20, {-1: 0})}),
        (5, {"install": kit.install(15, [kit.sequence(20, {-1: 5}), None])}),
        (0, {"install": kit.install(15, [kit.sequence(20, {-1: 5}, 5, 15), None])}),
        (2, {"install": kit.install(20, {-1: 2}, 15, [kit.sequence(20, {-1: 5}, 5, 15), None])}),
        # The shared sequence runs before each of the others, and the invoke sequence is the last
        # one.
        (3, {"shared": kit.shared(20, {-1: 3}), "install": kit.install(20, {-1: 5})}),
    ],
)
def test_the_floor_that_a_device_keeps(
    micropython: str, floor: int, changes: dict[str, Any]
) -> None:
    for said in answers(micropython, made(number=9, **changes)):
        assert said.split()[1:3] == ["9", str(floor)]
    assert parsed_of(number=9, **changes).floor == floor


def test_a_failed_branch_leaves_no_trace(micropython: str) -> None:
    """Neither a condition that held, nor an image, nor what is to be invoked."""
    wrong = kit.sequence(20, {21: "wrong"}, 21, 2, 20, {5: 7}, 5, 15)
    install = kit.sequence(20, {21: "mqtt:app"}, 15, [wrong, kit.sequence()], 21, 2, 3, 15)
    for said in answers(micropython, made(install=install)):
        assert said.endswith(planned(kit.IMAGE, "mqtt:app"))
    identity = (20, kit.device_parameters() | kit.image_parameters())
    held = kit.sequence(1, 15, 2, 15, 20, {5: 7}, 5, 15)
    shared = kit.sequence(*identity, 15, [held, kit.sequence()])
    assert answers(micropython, made(shared=shared)) == ["refused"] * 2
    with refused("wrong-device"):
        parsed_of(shared=shared)
    started = kit.sequence(15, [kit.sequence(23, 2, 20, {5: 7}, 5, 15), None])
    for said in answers(micropython, made(m9=started)):
        assert said.split()[3] == "-"


def test_each_component_goes_through_the_branches(micropython: str) -> None:
    names = [kit.APP, [b"data"]]
    common = kit.sequence(
        *(12, True, 20, kit.device_parameters() | kit.image_parameters(), 1, 15, 2, 15),
        *(12, 0, 20, {5: 0}, 12, 1, 20, {5: 1}),
    )
    first, second = kit.sequence(5, 15, 20, {21: "1"}), kit.sequence(20, {21: "2", 5: 0})
    install = kit.sequence(12, [1, 0], 15, [first, second], 21, 2, 3, 15)
    envelope = made(
        m3=kit.pack({2: names, 4: common}), m7=None, m9=kit.sequence(12, 1, 23, 2), m20=install
    )
    said = answers(micropython, envelope, *names)
    image = f"{kit.sha256(kit.IMAGE).hex()} {len(kit.IMAGE)}"
    assert said[0].split(" ", 1)[1] == f"1 0 data - data {image} 32 - app {image} 31 -"
    assert said[1] == "refused"  # slot 0 is not the free one, which the second branch asks for
    parsed = manifest_reader.parse(envelope)
    assert parsed.slots == (0,)
    assert [one.component for one in parsed.images] == ["data", "app"]


def many(count: int, *more: Any) -> bytes:
    return kit.sequence(*[5, 15] * count, *more)


def test_as_many_commands_as_run(micropython: str) -> None:
    """128, counted as often as they run: the shared sequence before each of the others, branches
    for each component."""
    identity = (20, kit.device_parameters() | kit.image_parameters() | {5: 0}, 1, 15, 2, 15)
    for count, taken in ((38, True), (39, False)):
        # 3 + count, before install, validate and invoke; 4, 1 and 1 of their own: 129 with one
        # more.
        said = answers(micropython, made(shared=kit.sequence(*identity, *[5, 15] * count)))
        assert (said[0] != "refused") is taken, count
    for count, taken in ((59, True), (60, False)):
        branch = kit.sequence(*[5, 15] * count)
        install = kit.sequence(12, [0, 0], 15, [branch, None], 12, 0, *FETCH)
        said = answers(
            micropython, made(shared=kit.sequence(*identity), m7=None, m9=None, install=install)
        )
        # 3; 3 and 3 of its own; two times the branch.
        assert (said[0] != "refused") is taken, count


def nested(depth: int) -> bytes:
    inside = kit.sequence()
    for _ in range(depth):
        inside = kit.sequence(15, [inside, None])
    return inside


def test_as_much_as_may_stand_in_a_sequence(micropython: str) -> None:
    """Each limit, and one more: commands that never run count as well."""
    left = kit.sequence(15, [kit.sequence(5, 15), *[kit.sequence(*[1, 15] * 11)] * 6, None])
    for before, taken in {
        (15, (nested(2), None)): True,
        (15, (nested(3), None)): False,
        (15, (kit.sequence(),) * 8): True,
        (15, (kit.sequence(),) * 9): False,
        (15, (kit.sequence(),)): False,
        # 3 + 1 + 1 in the other sequences, 3 in this one's end; 1 + 118 + 2 and 1 + 119 + 2 here.
        (15, (kit.sequence(), kit.sequence(*[1, 15] * 117), kit.sequence(12, 0))): True,
        (15, (kit.sequence(), kit.sequence(*[1, 15] * 118), kit.sequence(12, 0))): False,
        (15, (left, left)): False,
        (12, (0, 0, 0, 0)): True,
        (12, (0, 0, 0, 0, 0)): False,
    }.items():
        command, argument = before
        install = kit.sequence(command, list(argument), 12, 0, *FETCH)
        for said in answers(micropython, made(install=install)):
            assert (said != "refused") is taken, before


@pytest.mark.parametrize(
    ("label", "good", "bad"),
    [
        (1, [kit.VENDOR], [kit.VENDOR[:-1], kit.VENDOR + b"\0", "x" * 16]),
        (2, [kit.CLASS], [kit.CLASS[:-1], kit.CLASS + b"\0", "x" * 16]),
        (
            3,
            [kit.pack(kit.digest(kit.IMAGE))],
            [kit.pack([-16, value]) for value in (bytes(31), bytes(33), "x" * 32)]
            + [kit.pack([-16]), kit.pack([-16, bytes(32), 0]), kit.digest(b""), b""],
        ),
        (5, [], [1 << 32, "0", None]),
        (14, [1, (1 << 32) - 1], [0, 1 << 32, True]),
        (21, ["", "x" * 256, "ü" * 128], ["x" * 257, "ü" * 128 + "x", b"x", 1]),
        (-1, [0, 1], [2, (1 << 32) - 1, 1 << 32, False]),
    ],
)
def test_each_parameter(micropython: str, label: int, good: list[Any], bad: list[Any]) -> None:
    for value, taken in [(value, True) for value in good] + [(value, False) for value in bad]:
        install = kit.sequence(20, {21: "mqtt:app"}, 20, {label: value}, 21, 2)
        for said in answers(micropython, made(install=install, m7=None)):
            assert (said != "refused") is taken, value
    # Encryption is looked at closely only where it is an image's.
    for size, taken in ((64, True), (65, False)):
        install = kit.sequence(20, {19: bytes(size)}, 20, {19: grammar.INFO}, *FETCH)
        for said in answers(micropython, made(install=install)):
            assert (said != "refused") is taken


def test_each_sequence_begins_with_the_first_component(micropython: str) -> None:
    names = [kit.APP, [b"data"]]
    parameters = kit.device_parameters() | kit.image_parameters()
    shared = kit.sequence(12, True, 20, parameters, 1, 15, 2, 15, 12, 1)
    install = kit.sequence(20, {21: "first"}, 12, 1, 20, {21: "second"}, 12, True, 21, 2)
    envelope = made(
        m3=kit.pack({2: names, 4: shared}), m7=None, m9=kit.sequence(23, 2), m20=install
    )
    for said in answers(micropython, envelope, *names):
        words = said.split()
        assert words[3] == "app"
        assert (words[5], words[8]) == ("app", b"first".hex())
        assert (words[10], words[13]) == ("data", b"second".hex())


def test_only_a_failed_condition_leads_to_the_next_branch(micropython: str) -> None:
    for wrong in (kit.sequence(*FETCH, 21, 2), kit.sequence(12, [0, 0], 20, {21: "x"}, 21, 2)):
        envelope = made(install=kit.sequence(15, [wrong, kit.install()]))
        assert answers(micropython, envelope) == ["refused"] * 2
        with refused("suit-unsupported"):
            manifest_reader.parse(envelope)
    for said in answers(
        micropython, made(install=kit.sequence(15, [kit.sequence(21, 2), kit.install()]))
    ):
        assert said.endswith(planned(kit.IMAGE, "mqtt:app"))  # an image without an address


def test_the_first_refusal_is_reported() -> None:
    """Of slot 0: it says most to who made the manifest."""
    branches = [kit.sequence(20, {5: 0}, 5, 15, 21, 2, 21, 2), kit.sequence(5, 15)]
    with refused("suit-unsupported"):
        manifest_reader.parse(made(install=kit.sequence(20, {21: "x"}, 15, branches)))


NOTHING_FOR_A_DEVICE = {
    "a version of another type": [made(m1=True), made(m1=1.0)],
    "a digest's algorithm of another type": [
        made(shared=kit.shared(20, {3: kit.pack([-16.0, bytes(32)])})),
        made(m20=[-16.0, kit.sha256(kit.pack(kit.install()))]),
        made(m23=[-16.0, bytes(32)]),
    ],
    "a reference URI that is none": [made(m4=b"x"), made(m4=1), made(m4="x" * 257)],
    "a directive in another's sequence": [
        made(install=kit.install(23, 2)),
        made(shared=kit.shared(21, 2)),
        made(shared=kit.shared(23, 2)),
        made(m7=kit.sequence(3, 15, 21, 2)),
        made(m8=kit.sequence(23, 2)),
        made(m9=kit.sequence(21, 2)),
        made(install=kit.install(15, [kit.sequence(23, 2), None])),
        made(m7=kit.sequence(3, 15, -1, 15)),
        made(m7=kit.sequence(3, 15, 0, 15)),
    ],
    "nil before the last branch": [made(install=kit.install(15, [None, kit.sequence()]))],
    "no condition of vendor and class": [
        made(shared=kit.sequence(20, kit.device_parameters() | kit.image_parameters(), 1, 15)),
        made(shared=kit.sequence(20, kit.device_parameters() | kit.image_parameters(), 2, 15)),
        made(shared=kit.sequence(20, kit.image_parameters())),
        made(m3=kit.pack({2: [kit.APP]})),
    ],
    "a floor above the manifest": [made(number=4, install=kit.install(20, {-1: 5}))],
    "a number that is never new": [made(number=0)],
    "an identifier of five parts": [made(m3=kit.pack({2: [[b"a"] * 5], 4: kit.shared()}))],
    "a key ID of another form": [
        made(header={4: value}) for value in (b"", b"7 bytes", b"9 bytes!!", "8 bytes!", 1)
    ],
    "critical headers of another form": [
        made(header={2: value}) for value in ([], [4], [True], [1] * 9, 1)
    ],
    "nothing fetched": [
        made(install=None, m7=None),
        made(m20=kit.digest(kit.pack(kit.install())), m7=None),
        made(install=kit.sequence(20, {21: "mqtt:app"}), m7=None),
    ],
    "something fetched twice": [
        made(install=kit.install(21, 2)),
        made(install=kit.sequence(12, [0, 0], *FETCH)),
    ],
    "an image that is not described": [
        made(install=kit.sequence(21, 2)),
        made(shared=kit.sequence(20, kit.device_parameters(), 1, 15, 2, 15)),
    ],
    "an empty image": [made(install=kit.install(), shared=kit.shared(20, {14: 0}))],
    "a condition that fails": [
        made(install=kit.install(5, 15)),
        made(install=kit.sequence(3, 15, *FETCH)),
        made(m7=kit.sequence(20, kit.image_parameters(OTHER), 3, 15)),
        made(install=kit.install(15, [kit.sequence(5, 15)] * 2)),
        made(install=kit.sequence(20, {5: 2}, *FETCH)),
    ],
    "another vendor or class": [
        made(shared=kit.shared(20, {2: bytes(16)}, 2, 15)),
        made(shared=kit.shared(20, {2: bytes(16)})),
        made(shared=kit.shared(20, {1: bytes(16)})),
    ],
    "another encryption": [
        made(install=kit.sequence(20, {19: info}, *FETCH))
        for info in (
            *(b"", b"\xd0", grammar.INFO[:-1], grammar.INFO + b"\0", bytes(64), bytes(65)),
            # AES-CCM-16-128-256 of RFC 9053, which is not Warden's.
            b"\xd0" + kit.pack([kit.pack({1: 31, 4: bytes(8)}), {}, None]),
        )
    ],
    "numbers, lengths and types": [
        made(install=kit.install(20, {5: 1 << 32})),
        made(install=kit.install(20, {14: -1})),
        made(install=kit.install(20, {True: 1})),
        made(install=kit.install(20, {21: b"x"})),
        made(install=kit.install(3, 16)),
        made(install=kit.install(3, True)),
        made(install=kit.install(12, False)),
        made(install=kit.install(12, [])),
        made(install=kit.install(15, [kit.sequence()] * 9)),
        made(m23=1),
    ],
    "a member that is null": [
        kit.envelope(kit.manifest() | {label: None}, SIGN) for label in (4, 7, 8, 9, 20, 23)
    ],
    "a severed element": [
        kit.envelope(kit.manifest(m23=kit.digest(b"x")), SIGN, beside={23: b""}),
        kit.envelope(kit.manifest(), SIGN, beside={23: b""}),
        kit.envelope(kit.manifest(m23=b"\xa0"), SIGN, beside={23: b"\xa0"}),
        kit.envelope(kit.manifest(), SIGN, beside={20: kit.install()}),
    ],
    "an algorithm that is no signature's": [
        kit.envelope(kit.manifest(), SIGN, alg) for alg in (-8, -35, 5, -65535)
    ],
}


@pytest.mark.parametrize("kind", NOTHING_FOR_A_DEVICE)
def test_manifests_that_every_device_refuses(micropython: str, kind: str) -> None:
    for number, envelope in enumerate(NOTHING_FOR_A_DEVICE[kind]):
        assert answers(micropython, envelope) == ["refused"] * 2, number
        with pytest.raises(HostError):
            manifest_reader.parse(envelope)


def test_manifests_that_devices_accept(micropython: str) -> None:
    """Rare forms, which the host must not refuse."""
    own = kit.sequence(20, kit.device_parameters() | kit.image_parameters(), 1, 15, 2, 15)
    for envelope in (
        made(header={2: [1], 4: b"8 bytes!"}),
        made(header={2: [4, 1, 2], 4: b"8 bytes!"}),
        made(m23=kit.pack({"en": {}})),
        made(m4=""),
        made(m8=kit.sequence()),
        made(install=kit.sequence(20, {19: b"wrong"}, 20, {19: grammar.INFO}, *FETCH)),
        made(install=kit.sequence(15, [kit.sequence(20, {19: b"x"}, 5, 15), None], *FETCH)),
        made(shared=kit.sequence(20, {1: bytes(16)}, 15, [kit.sequence(1, 15), own])),
        kit.envelope(
            kit.manifest(m20=kit.digest(kit.pack(kit.install()))), SIGN, beside={20: kit.install()}
        ),
    ):
        said = answers(micropython, envelope)
        assert "refused" not in said
    # Two keys of one release can't be.
    names = [kit.APP, [b"data"]]
    parameters = kit.device_parameters() | kit.image_parameters() | {21: "x", 19: grammar.INFO}
    common = kit.sequence(12, True, 20, parameters, 1, 15, 2, 15, 12, 1)
    for info, taken in ((grammar.INFO, True), (grammar.OTHER_INFO, False)):
        install = kit.sequence(12, 1, 20, {19: info}, 12, True, 21, 2)
        envelope = made(m3=kit.pack({2: names, 4: common}), m7=None, m9=None, m20=install)
        said = answers(micropython, envelope, *names)
        assert ("refused" not in said) is taken
        if not taken:
            with refused("payload-key"):
                manifest_reader.parse(envelope)


def test_components_that_would_have_one_file() -> None:
    """Identifiers that differ and are shown alike: a file could be either's.

    One without a name has none.
    """
    for pair in ([[]], [[b""]], [[b"a/b"], [b"a", b"b"]], [[b"00"], [b"\0"]], [kit.APP, kit.APP]):
        with refused("suit-component"):
            manifest_reader.parse(made(m3=kit.pack({2: pair, 4: kit.shared()})))


# What is shown, verified and rolled out


def slots(first: bytes, second: bytes) -> bytes:
    """The draft's A/B form: another image for each slot."""
    branches = [
        kit.sequence(20, {5: slot, **kit.image_parameters(image)}, 5, 15)
        for slot, image in ((0, first), (1, second))
    ]
    return kit.shared(15, branches)


def test_an_image_for_each_slot_is_shown_and_not_verified(
    micropython: str, folder, capsys, tmp_path
) -> None:
    envelope = made(shared=slots(kit.IMAGE, OTHER), m7=None)
    said = answers(micropython, envelope)
    assert said[0].endswith(planned(kit.IMAGE, "mqtt:app"))
    assert said[1].endswith(planned(OTHER, "mqtt:app"))
    path = tmp_path / "manifest.suit"
    path.write_bytes(envelope)
    (tmp_path / "app.img").write_bytes(kit.IMAGE)
    pem = tmp_path / "key.pem"
    pem.write_bytes(signing_key.public_pem(grammar.KEY.public_key()))
    fails(capsys, "suit-unsupported", "verify", str(path), "--key", str(pem))
    assert main.run(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    for slot, image in ((0, kit.IMAGE), (1, OTHER)):
        assert f"slot       {slot}, where that is the free one" in shown
        assert f"sha256 {kit.sha256(image).hex()}" in shown
    assert main.run(["inspect", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [plan["slots"] for plan in record["plans"]] == [[0], [1]]
    assert [one["size"] for one in record["images"]] == [len(kit.IMAGE), len(OTHER)]


def test_a_release_for_one_slot_is_shown_as_such(folder, capsys, tmp_path) -> None:
    path = tmp_path / "manifest.suit"
    path.write_bytes(made(install=kit.sequence(20, {5: 1}, *FETCH)))
    (tmp_path / "app.img").write_bytes(kit.IMAGE)
    pem = tmp_path / "key.pem"
    pem.write_bytes(signing_key.public_pem(grammar.KEY.public_key()))
    assert main.run(["verify", str(path), "--key", str(pem)]) == 0
    assert "for devices whose free slot is 1" in capsys.readouterr().out
    assert main.run(["inspect", str(path)]) == 0
    assert "slot       1, where that is the free one" in capsys.readouterr().out


def test_a_manifest_for_two_classes(folder, capsys, tmp_path) -> None:
    """One plan for both is verified; a floor for one of them alone is not."""
    shared = [20, kit.device_parameters() | kit.image_parameters(), 1, 15]
    for floor, taken in ((0, True), (1, False)):
        other = kit.sequence(20, {2: bytes(16), -1: floor}, 2, 15)
        envelope = made(shared=kit.sequence(*shared, 15, [kit.sequence(2, 15), other]), m7=None)
        parsed = manifest_reader.parse(envelope)
        assert {target.class_id for target, _ in parsed.plans} == {kit.CLASS, bytes(16)}
        assert (parsed.vendor, parsed.class_id) == (kit.VENDOR, b"")
        path = tmp_path / "manifest.suit"
        path.write_bytes(envelope)
        (tmp_path / "app.img").write_bytes(kit.IMAGE)
        if taken:
            inspect.verify(path, [grammar.KEY.public_key()])
        else:
            assert inspect.inspect(path)[1]["floor"] == 1
            with refused("suit-unsupported"):
                inspect.verify(path, [grammar.KEY.public_key()])


def test_a_manifest_for_too_many_kinds() -> None:
    """17 classes are not looked at one by one."""

    def of(count: int) -> bytes:
        classes = [bytes([number]) * 16 for number in range(count - 1)]
        more = [word for one in classes for word in (20, {2: one})]
        return made(shared=kit.shared(*more, 20, {2: kit.CLASS}))

    manifest_reader.parse(of(16))
    with refused("suit-unsupported"):
        manifest_reader.parse(of(17))


@pytest.fixture
def maker(tmp_path, monkeypatch):
    cheap(monkeypatch)
    made_ = Maker(tmp_path)
    yield made_
    made_.store.close()


def test_a_rollout_serves_what_devices_fetch(maker) -> None:
    """A holder of the key signs one image and shows another: the file must be the one that is
    fetched."""
    one = maker.make()
    sign = kit.ecdsa(maker.private)
    honest, shown = (one.folder / "app.img").read_bytes(), b"shown to the owner"
    target = one.parsed.plans[0][0]
    identity = kit.device_parameters(target.vendor, target.class_id)
    shared = kit.sequence(20, identity | kit.image_parameters(honest), 1, 15, 2, 15)
    late = kit.install(20, kit.image_parameters(shown))
    path, image = one.folder / release.SIGNED, one.folder / "app.img"
    path.write_bytes(kit.envelope(kit.manifest(shared=shared, install=late, m7=None), sign))
    open_release(maker.fleet, maker.store, "relay-1.0").close()
    image.write_bytes(shown)
    with refused("image-mismatch"):
        open_release(maker.fleet, maker.store, "relay-1.0")
    with refused("image-mismatch"):
        inspect.verify(one.folder, [maker.key.public])
    branches = [
        kit.sequence(20, {5: slot, **kit.image_parameters(data)}, 5, 15)
        for slot, data in ((0, honest), (1, shown))
    ]
    shared = kit.sequence(20, identity, 1, 15, 2, 15, 15, branches)
    path.write_bytes(kit.envelope(kit.manifest(shared=shared, m7=None), sign))
    with refused("suit-unsupported"):
        open_release(maker.fleet, maker.store, "relay-1.0")


def test_the_key_that_the_manifest_names(maker) -> None:
    """A device opens a wrapped key that is another one than the manifest names, and refuses it: so
    does the host, before."""
    one = maker.make(encrypted=True)
    with maker.store.transaction():
        maker.store._do("UPDATE releases SET cek = ?", bytes(32))
    with refused("image-mismatch"):
        open_release(maker.fleet, maker.store, "relay-1.0")
    with refused("image-mismatch"):
        inspect.verify(one.folder, [maker.key.public], bytes(32))


# Generated manifests


def test_both_sides_agree_on_generated_manifests(micropython: str) -> None:
    """The same ones each time; `make fuzz` makes new ones for as long as it is told."""
    cases = list(grammar.Generator(11).cases(MANIFESTS))
    questions = [case.question() for case in cases]
    said = grammar.both.port(micropython, questions)
    assert grammar.disagreements(cases, said) == []
    assert said[::7] == grammar.both.here(questions[::7])
    codes = {answer.split()[1] for answer in said if answer.startswith("error ")}
    taken = sum(not answer.startswith("error ") for answer in said)
    print(len(said), "asked,", taken, "taken, refused with", sorted(codes))
    assert len(said) // 10 < taken < len(said) // 2
    assert {"suit-malformed", "suit-unsupported", "suit-condition", "wrong-device"} <= codes


def test_a_disagreement_is_found() -> None:
    """A device that took what the host refuses, or had another plan, would be noticed."""
    case = Case(made(), (tuple(kit.APP),), Target(kit.VENDOR, kit.CLASS, 0))
    good = case.host()
    assert grammar.disagreements([case], [good]) == []
    assert len(grammar.disagreements([case], ["error suit-limit"])) == 1
    assert len(grammar.disagreements([case], [good.replace(" 1 0 ", " 1 1 ")])) == 1


def test_the_fuzzer_ends_at_a_disagreement(
    micropython: str, monkeypatch, tmp_path, capsys
) -> None:
    """With the seed that leads there again, in a file that holds the manifest."""
    monkeypatch.setattr(fuzz_manifests, "ROUND", 2)
    monkeypatch.setattr(fuzz_manifests, "TESTS", tmp_path / "tests")
    assert fuzz_manifests.main(0, 5) == 0
    assert "2 judged alike, seeds up to 5" in capsys.readouterr().out
    monkeypatch.setattr(Case, "host", lambda self: "other")
    assert fuzz_manifests.main(0, 5) == 1
    (found,) = (tmp_path / "build" / "fuzz").iterdir()
    assert found.name == "finding-manifests-5.txt"
    again = next(grammar.Generator(5).cases(2)).envelope  # but for its signature
    assert grammar.manifest_digest(again).hex() in found.read_text()
