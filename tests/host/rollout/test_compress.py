"""Chunks that the host compresses inflate on the device, within its window."""

import os
import zlib

from warden_host.rollout import compress


def unpack(data: bytes) -> bytes:
    """By a decompressor whose window is no larger than a device's."""
    work = zlib.decompressobj(-compress.WINDOW_BITS)
    plain = work.decompress(data) + work.flush()
    assert work.eof
    assert not work.unused_data
    return plain


def test_source_text_gets_smaller() -> None:
    text = (b"def main():\n    return 1\n" * 60)[:1024]
    packed = compress.pack(text)
    assert packed is not None
    assert len(packed) < 100
    assert unpack(packed) == text


def test_incompressible_chunks_stay_as_they_are() -> None:
    assert compress.pack(os.urandom(1024)) is None
    assert compress.pack(b"") is None
    assert compress.pack(b"ab") is None
