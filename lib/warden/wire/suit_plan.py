"""The result of a manifest, in a module of its own.

A plan lives through the whole download; with more in this module, that code would stay in memory.
"""

from micropython import const

TYPE_CHECKING = const(False)

MAX_ENVELOPE = 8192


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
