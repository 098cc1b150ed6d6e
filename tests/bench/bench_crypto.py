"""The primitives of the unix port beside OpenSSL (through `cryptography`), or beside the bare call
that they wrap.

Both sides are measured in turns, and a ratio is that of the medians, so that the machine's load
falls on both. Memory: what one operation leaves on the heap for the collector, and the smallest
heap in which it still works.
"""

import hashlib
import hmac
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
sys.path.insert(0, str(REPO / "tools"))

import generate_p256  # noqa: E402  (the path must be set first)
from measure_kit import row  # noqa: E402

Row = dict[str, object]
Inputs = dict[str, object]

_TURNS = 7
# Of a few milliseconds each, the best counts: on a busy machine a longer one is always cut short.
_ROUNDS = 15
_PEER = REPO / "build" / "peer"
_STEP_KB = 2


def program() -> str:
    return os.environ.get("MICROPYTHON") or str(REPO / ".venv" / "bin" / "micropython")


def run(
    ops: "list[str]",
    inputs: Inputs,
    count: int,
    rounds: int = 1,
    garbage: bool = False,
    heap_kb: int = 8192,
) -> dict | None:
    """What crypto_device.py answers; None when it does not get through, which with a small heap is
    no fault."""
    request = {"lib": str(REPO / "lib"), "peer": str(_PEER), "ops": ops, "count": count}
    done = subprocess.run(
        [program(), "-X", f"heapsize={heap_kb}k", str(HERE / "crypto_device.py")],
        input=json.dumps(request | {"rounds": rounds, "garbage": garbage} | inputs) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        if heap_kb == 8192:
            raise RuntimeError(f"{ops}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return None
    return json.loads(done.stdout)


def here(function: Callable[[], object], count: int) -> float:
    """Microseconds for one call under CPython, where the work is OpenSSL's."""
    start = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - start) / count * 1e6


def turns(
    ops: "dict[str, int]", inputs: Inputs, openssl: "Callable[[], object] | None" = None
) -> dict[str, float]:
    """Medians of microseconds over turns in which all are measured, each by the best of some
    rounds. ops: name and count on the device; openssl appears as "openssl", and then all but that
    are multiples of it, each turn's by itself."""
    found: dict[str, list[float]] = {name: [] for name in (*ops, "openssl")}
    for _ in range(_TURNS):
        base = 1.0
        for count in set(ops.values()):
            together = [name for name in ops if ops[name] == count]
            if openssl is not None:
                base = min(here(openssl, 10) for _ in range(_ROUNDS))
                found["openssl"].append(base)
            answer = run(together, inputs, count, _ROUNDS)
            assert answer is not None
            for name in together:
                found[name].append(min(answer["us"][name]) / base)
    return {name: statistics.median(values) for name, values in found.items() if values}


def signature_inputs() -> "tuple[Inputs, Callable[[], object]]":
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    numbers = public.public_numbers()
    digest = os.urandom(32)
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()))
    der = private.sign(digest, algorithm)
    r, s = decode_dss_signature(der)
    inputs: Inputs = {
        "key": numbers.x.to_bytes(32, "big").hex() + numbers.y.to_bytes(32, "big").hex(),
        "digest": digest.hex(),
        "signature": r.to_bytes(32, "big").hex() + s.to_bytes(32, "big").hex(),
        "table": generate_p256.table(numbers.x, numbers.y).hex(),
    }
    return inputs, lambda: public.verify(der, digest, algorithm)


def modulus_inputs(bits: int) -> "tuple[Inputs, Callable[[], object]]":
    private = rsa.generate_private_key(65537, bits)
    public = private.public_key()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    digest = os.urandom(32)
    algorithm = Prehashed(hashes.SHA256())
    signature = private.sign(digest, pss, algorithm)
    modulus = public.public_numbers().n.to_bytes(bits // 8, "big")
    inputs: Inputs = {
        "modulus": modulus.hex(),
        "digest": digest.hex(),
        "signature": signature.hex(),
    }
    return inputs, lambda: public.verify(signature, digest, pss, algorithm)


def install_peer() -> None:
    """A published pure-Python ECDSA, with what MicroPython lacks put in its place: int.bit_length,
    and pow(x, -1, n), which there answers 0 instead of raising, so that the peer would refuse
    valid signatures."""
    pins = REPO / "tools" / "setup" / "peer.txt"
    stamp = _PEER / ".stamp"
    if stamp.is_file() and stamp.read_text() == pins.read_text():
        return
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    options = ["-q", "--no-deps", "--require-hashes", "--target", str(_PEER), "--upgrade"]
    subprocess.run([*command, *options, "-r", str(pins)], check=True)
    shimmed = _PEER / "shimmed"
    shimmed.mkdir(exist_ok=True)
    (shimmed / "__init__.py").write_text("")
    for name in ("math", "curve", "point"):
        text = (_PEER / "ellipticcurve" / f"{name}.py").read_text()
        text = text.replace("pow(x, -1, n)", "inverse(x, n)")
        for number in ("N", "n", "s", "low"):
            text = text.replace(f"{number}.bit_length()", f"(len(bin({number})) - 2)")
        if name == "math":
            text += "\n\nfrom warden.crypto._p256_curve import inverse\n"
        (shimmed / f"{name}.py").write_text(text)
    stamp.write_text(pins.read_text())


def smallest_heap(op: str, inputs: Inputs) -> int:
    """Bytes of the smallest heap in which the operation works, modules and inputs included, to 2
    KB."""
    low, high = 8, 512
    while high - low > _STEP_KB:
        middle = (low + high) // 2
        if run([op], inputs, 1, heap_kb=middle) is None:
            low = middle
        else:
            high = middle
    return high * 1024


def ecdsa_rows() -> Iterator[Row]:
    inputs, openssl = signature_inputs()
    install_peer()
    counts = {"any key": 2, "table": 2, "plain": 1, "plain table": 1, "peer": 1}
    found = turns(counts, inputs, openssl)
    unit = "× OpenSSL"
    yield row("ES256 verify, any key", found["any key"], unit, most=22)
    yield row("ES256 verify, pinned key with a table", found["table"], unit, most=11)
    yield row("ES256 verify without viper", found["plain"], unit, most=70)
    yield row("ES256 verify without viper, with a table", found["plain table"], unit)
    yield row("ES256 verify, starkbank-ecdsa shimmed", found["peer"], unit)
    for name, op in (
        ("any key", "any key"),
        ("with a table", "table"),
        ("without viper", "plain"),
    ):
        yield from memory_rows(f"ES256 verify, {name}", op, inputs)


def memory_rows(name: str, op: str, inputs: Inputs) -> Iterator[Row]:
    answer = run([op], inputs, 1, garbage=True)
    assert answer is not None
    yield row(f"{name}: garbage", answer["garbage"][op], "bytes (64-bit)")
    yield row(f"{name}: smallest heap", smallest_heap(op, inputs), "bytes (64-bit)")


def pss_rows() -> Iterator[Row]:
    for bits in (2048, 3072, 4096):
        inputs, openssl = modulus_inputs(bits)
        found = turns({"pss": 1, "pow": 1}, inputs, openssl)
        ratio = found["pss"] / found["pow"]
        yield row(f"PS256 verify, RSA-{bits}", ratio, "× bare pow", most=1.1)
        yield row(f"PS256 verify, RSA-{bits}, OpenSSL", found["pss"], "× OpenSSL")
        if bits == 3072:
            yield from memory_rows("PS256 verify, RSA-3072", "pss", inputs)


def ccm_rows() -> Iterator[Row]:
    for bits in (128, 256):
        inputs: Inputs = {"aes": bytes(range(bits // 8)).hex(), "size": 16384}
        found = turns({"cbc": 5, "ccm": 5, "ccm odd": 5}, inputs)
        name = f"AES-{bits}-CCM, 16 KB"
        share = 100 * found["cbc"] / found["ccm"]
        yield row(name, share, "% of raw CBC", least=40)
        share = 100 * found["cbc"] / found["ccm odd"]
        yield row(name + ", on an odd address", share, "% of raw CBC")
        for size in (64, 1024):
            small = turns({"ccm": 50}, inputs | {"size": size})
            yield row(f"AES-{bits}-CCM, {size} B", small["ccm"], "µs")
        if bits == 256:
            yield from memory_rows("AES-256-CCM, 16 KB", "ccm", inputs)


def derive_rows() -> Iterator[Row]:
    key = bytes(32)
    found = turns({"hmac": 100}, {}, lambda: hmac.digest(key, key, "sha256"))
    yield row("HMAC-SHA-256 of 32 B", found["hmac"], "× CPython's")
    found = turns(
        {"pbkdf2": 1},
        {"size": 1000},
        lambda: hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1000, 32),
    )
    yield row("PBKDF2-SHA-256", found["pbkdf2"], "× OpenSSL")


def rows() -> Iterator[Row]:
    """One row a figure, as run.py documents them."""
    yield from ecdsa_rows()
    yield from pss_rows()
    yield from ccm_rows()
    yield from derive_rows()
