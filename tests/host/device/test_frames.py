"""The functions that send an event keep their frames off the heap: docs/benchmarks.md says why."""

import re
import subprocess
from pathlib import Path

import pytest

# Words of locals and stack, with three for each exception handler, that MicroPython's virtual
# machine takes from the C stack (VM_MAX_STATE_ON_STACK, py/objfun.c).
WORDS = 11
FRAME = re.compile(r"code block '(\w+)'.*?N_STATE (\d+)\)\s*\(N_EXC_STACK (\d+)\)", re.DOTALL)
# `publish`, a coroutine, and `CCM._crypt` are the two that don't.
SENDING = {
    "agent/device.py": {"_gets", "_post", "_post_sealed"},
    "agent/agent.py": {"post"},
    "session/session.py": {"seal_event", "_start_payload", "_seal"},
    "wire/cbor.py": {"write", "_write", "_write_head", "_write_only_key"},
    "wire/exact.py": {"encode_text"},
    "wire/envelope.py": {"seal", "_write_counter", "_set_nonce"},
    "wire/names.py": {"sealed"},
    "net/mqtt.py": {"post", "_event", "_write"},
    "net/link.py": {"write"},
    "crypto/ccm.py": {"seal", "_apply_stream"},
}


@pytest.mark.parametrize("path", SENDING)
def test_frames(repo: Path, micropython: str, path: str) -> None:
    compiled = subprocess.run(
        [micropython, "-O3", "-X", "compile-only", "-v", "-v", "-v", repo / "lib/warden" / path],
        capture_output=True,
        text=True,
        check=True,
    )
    words = {
        name: int(state) + 3 * int(handlers)
        for name, state, handlers in FRAME.findall(compiled.stdout)
        if name in SENDING[path]
    }
    assert set(words) == SENDING[path]
    assert not {name: count for name, count in words.items() if count > WORDS}
