"""What a manifest that was judged asks for. A module of its own, and as small as can be: a plan lives through the whole download, and would else keep all of the
code that judged it in memory."""

from micropython import const

TYPE_CHECKING = const(False)

MAX_ENVELOPE = 8192


class Image:
    """One image to fetch. component: index in the target's components. digest: SHA-256. uri: UTF-8. encryption: what parameter 19 says about how it comes, None
    where it comes as it is. Digest and size are the plain image's."""

    if TYPE_CHECKING:
        component: int
        digest: bytes
        size: int
        uri: bytes
        encryption: bytes | None


class Plan:
    """digest: the manifest's own. slot: the one that is to be written. images: in the order of fetching. floor: 0 if it sets none. invoke: the component that starts."""

    if TYPE_CHECKING:
        digest: bytes
        sequence: int
        slot: int
        images: list[Image]
        floor: int
        invoke: int | None
