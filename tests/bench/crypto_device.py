"""The device's half of bench_crypto.py. Reads one JSON request from standard input:

{"lib": path, "peer": path, "ops": [names], "count": n, "rounds": n, "garbage": bool, …the inputs}

and prints JSON: {"us": {name: [microseconds for one operation, a number a round]},
"garbage": {name: bytes that one operation leaves on the heap}}.
"""

import gc
import json
import sys
import time

request = json.loads(sys.stdin.readline())
sys.path[:] = [request["lib"], ".frozen"]
unhex = bytes.fromhex


def ecdsa(fast=True, table=None):
    from warden.crypto import _p256_plain, p256

    if not fast:
        p256._fast = _p256_plain
    key = p256.PublicKey(unhex(request["key"]))
    if table:
        found = unhex(request[table])
        key.load_table = lambda: found
    digest, signature = unhex(request["digest"]), unhex(request["signature"])
    if not key.verify(digest, signature) or key.slow is bool(table):
        raise ValueError("a valid signature was refused")
    return lambda: key.verify(digest, signature)


def peer():
    """A published ECDSA, as its authors wrote it, but for what MicroPython has not."""
    sys.path.append(request["peer"])
    from shimmed.curve import CurveFp
    from shimmed.math import Math
    from shimmed.point import Point

    p = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    gx = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
    gy = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5
    curve = CurveFp(p - 3, b, p, n, gx, gy, "prime256v1", ())
    key, signature = unhex(request["key"]), unhex(request["signature"])
    point = Point(int.from_bytes(key[:32], "big"), int.from_bytes(key[32:], "big"))
    e = int.from_bytes(unhex(request["digest"]), "big")
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")

    def verify():
        w = Math.inv(s, n)
        v = Math.multiplyAndAdd(curve.G, e * w % n, point, r * w % n, curve=curve)
        return v.x % n == r

    if not verify():
        raise ValueError("a valid signature was refused")
    return verify


def pss():
    from warden.crypto import rsa

    key = rsa.PublicKey(unhex(request["modulus"]))
    digest, signature = unhex(request["digest"]), unhex(request["signature"])
    if not key.verify(digest, signature):
        raise ValueError("a valid signature was refused")
    return lambda: key.verify(digest, signature)


def power():
    n = int.from_bytes(unhex(request["modulus"]), "big")
    s = int.from_bytes(unhex(request["signature"]), "big")
    return lambda: pow(s, 65537, n)


def cbc():
    import cryptolib

    buf = bytearray(request["size"])
    encrypt = cryptolib.aes(unhex(request["aes"]), 2, bytes(16)).encrypt
    return lambda: encrypt(buf, buf)


def ccm(offset=0):
    from warden.crypto.ccm import CCM

    size = request["size"]
    buf = memoryview(bytearray(size + 16 + offset))[offset:]
    seal = CCM(unhex(request["aes"])).seal
    nonce = bytes(13)
    return lambda: seal(nonce, buf, size, b"")


def pbkdf2():
    from warden.crypto.pbkdf2 import pbkdf2_sha256

    return lambda: pbkdf2_sha256(b"password", b"salt", request["size"], 32)


def hmac():
    from warden.crypto.kdf import hmac_sha256

    key = bytes(32)
    return lambda: hmac_sha256(key, key)


OPERATIONS = {
    "any key": ecdsa,
    "table": lambda: ecdsa(table="table"),
    "plain": lambda: ecdsa(False),
    "plain table": lambda: ecdsa(False, "table"),
    "peer": peer,
    "pss": pss,
    "pow": power,
    "cbc": cbc,
    "ccm": ccm,
    "ccm odd": lambda: ccm(1),
    "pbkdf2": pbkdf2,
    "hmac": hmac,
}

operations = [(name, OPERATIONS[name]()) for name in request["ops"]]
times = {name: [] for name in request["ops"]}
garbage = {}
for name, operation in operations:
    operation()
    if request["garbage"]:
        gc.collect()
        before = gc.mem_alloc()
        gc.disable()
        operation()
        garbage[name] = gc.mem_alloc() - before
        gc.enable()
# In turns, so that the machine's load falls on all of them.
for _ in range(request["rounds"]):
    for name, operation in operations:
        gc.collect()
        start = time.ticks_us()
        for _ in range(request["count"]):
            operation()
        times[name].append(time.ticks_diff(time.ticks_us(), start) / request["count"])
print(json.dumps({"us": times, "garbage": garbage}))
