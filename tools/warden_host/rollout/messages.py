"""The `update` commands of a rollout: the manifest, and the chunks that a device asks for."""

from dataclasses import dataclass
from typing import Any

from warden_client.protocol.strictcbor import is_u32

from warden_host.errors import HostError, LinkError, PeerError
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.release.opened import OpenRelease
from warden_host.rollout import compress
from warden_host.rollout.plan import Plan
from warden_host.store.store import Device

# Encrypted images come in segments, which no chunk of a device crosses.
_SEGMENT = 1024


class Unreachable(Exception):
    """A command got no usable answer. retry_s: when to query again; None: it sent nothing."""

    def __init__(self, code: str, retry_s: float | None = None) -> None:
        super().__init__(code)
        self.retry_s = retry_s


def unreachable(error: PeerError) -> Exception:
    """Return Unreachable for an error that another try may cure, else the error."""
    # A device in quarantine gets no command until it is cleared: away, like one off line.
    again = isinstance(error, LinkError) or error.code == "quarantined"
    return Unreachable(error.code) if again else error


@dataclass(frozen=True)
class Chunk:
    """`length` bytes of a component's file; number: counts the chunks of one download."""

    number: int
    component: str
    offset: int
    length: int


def parse(want: Any) -> Chunk:
    """Return the chunk of a status' `want`. Raises bad-body."""
    if isinstance(want, list) and len(want) == 4:
        number, component, offset, length = want
        if is_u32(number) and is_u32(offset) and is_u32(length) and isinstance(component, str):
            return Chunk(number, component, offset, length)
    raise HostError("bad-body", "a device asked for a chunk in another form")


def following(release: OpenRelease, chunk: Chunk) -> Chunk | None:
    """Return the chunk that a device asks for after this one; None where that is not certain."""
    offset = chunk.offset + chunk.length
    left = release.sizes[chunk.component] - offset
    if not left or _SEGMENT % chunk.length:
        return None
    return Chunk(chunk.number + 1, chunk.component, offset, min(chunk.length, left))


def manifest(release: OpenRelease, device: Device, plan: Plan, by_web: bool) -> dict[str, Any]:
    """Return the arguments of the command that sends a manifest.

    by_web: a web server may be asked for the image
    """
    pair = next(pair for pair in device.pairs if pair.appid == AUTHORITY)
    order: dict[str, Any] = {"envelope": release.envelope}
    key = release.key_for(device.type, device.device, pair.k)
    if key is not None:
        order["key"] = key
    if policy.gate(device.policy) is not None:
        order["grant"] = True
    if release.by_web and not by_web:
        order["https"] = False
    elif release.by_web and plan.web_pins:
        order["pins"] = [bytes.fromhex(pin) for pin in plan.web_pins]
    return order


def chunk_data(chunk: Chunk, data: bytes, deflates: bool) -> dict[str, Any]:
    """Return the arguments of the command that sends a chunk.

    deflates: the device takes compressed chunks
    """
    packed = compress.pack(data) if deflates else None
    return {"n": chunk.number} | ({"data": data} if packed is None else {"z": packed})
