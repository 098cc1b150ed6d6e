"""The result of a manifest, in a module of its own.

A plan lives through the whole download; with more in this module, that code would stay in memory.
"""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

MAX_ENVELOPE = 8192


def copied(value: "Any") -> "Any":
    """Return a copy of a plan, or of a part of one, in memory of its own."""
    kind = type(value)
    if kind is list:
        return [copied(item) for item in value]
    if kind is bytes:
        return bytes(memoryview(value))
    if kind is not Plan and kind is not Image:
        return value
    made = kind()
    for name, item in value.__dict__.items():
        setattr(made, name, copied(item))
    return made


class Image:
    """One image to fetch.

    component: index in the target's components. digest, size: of the plain image. uri: UTF-8.
    encryption: parameter 19, or None for an image that is not encrypted.
    """

    if TYPE_CHECKING:
        component: int
        digest: bytes
        size: int
        uri: bytes
        encryption: bytes | None


class Plan:
    """What to fetch and where to.

    digest: the manifest's own. slot: the one to write. images: in the order of fetching. floor: 0
    if the manifest sets none. invoke: the component that starts.
    """

    if TYPE_CHECKING:
        digest: bytes
        sequence: int
        slot: int
        images: list[Image]
        floor: int
        invoke: int | None
