"""Writes tests/vectors/nist.txt from the package `cryptography-vectors`: NIST's CAVP cases, as far
as they are ours, and the RFCs' for HMAC and HKDF. `python tests/vectors/extract.py`; the package
is not needed to run the tests.

A line is the answer that is expected, a tab and the question, as tests/cpython/answers.py reads
it.
"""

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
Case = dict[str, str]


def read(path: str) -> list[str]:
    text = (files("cryptography_vectors") / path).read_text(encoding="latin-1")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def cases(path: str, last: str) -> Iterator[Case]:
    """The values that stand when the field `last` comes; a field stands until it is written
    over."""
    now: Case = {}
    for line in read(path):
        head = re.fullmatch(r"\[(.*)\]", line)
        if head:
            now["section"] = head[1]
            for part in head[1].split(","):
                if "=" in part:
                    name, value = part.split("=")
                    now[name.strip()] = value.strip()
        elif "=" in line:
            name, value = line.split("=", 1)
            now[name.strip()] = value.strip()
            if name.strip() == last:
                yield dict(now)


def line(wanted: str, operation: str, *parts: str) -> str:
    return wanted + "\t" + " ".join([operation, *(part or "-" for part in parts)]) + "\n"


def ccm() -> Iterator[str]:
    for bits in (128, 256):
        for kind in ("VADT", "VNT", "VPT", "VTT"):
            for case in cases(f"ciphers/AES/CCM/{kind}{bits}.rsp", "CT"):
                tag = int(case["Tlen"])
                if int(case["Nlen"]) != 13 or tag < 8 or int(case["Alen"]) >= 65280:
                    continue
                plain = case["Payload"] if int(case["Plen"]) else ""
                aad = case["Adata"] if int(case["Alen"]) else ""
                # VADT has AAD of 65536 bytes, which takes a length format that is not ours.
                yield line(
                    case["CT"], "seal", case["Key"], f"{tag:02x}", case["Nonce"], aad, plain
                )
        for case in cases(f"ciphers/AES/CCM/DVPT{bits}.rsp", "Result"):
            tag = int(case["Tlen"])
            if int(case["Nlen"]) != 13 or tag < 8:
                continue
            aad = case["Adata"] if int(case["Alen"]) else ""
            yield line(
                "pass" if case["Result"] == "Pass" else "error tampered",
                "opens",
                case["Key"],
                f"{tag:02x}",
                case["Nonce"],
                aad,
                case["CT"],
            )


def number(text: str, size: int = 32) -> str:
    return int(text, 16).to_bytes(size, "big").hex()


def sha256(text: str) -> str:
    return hashlib.sha256(bytes.fromhex(text)).hexdigest()


def ecdsa() -> Iterator[str]:
    for case in cases("asymmetric/ECDSA/FIPS_186-3/SigVer.rsp", "Result"):
        if case["section"] == "P-256,SHA-256":
            key = number(case["Qx"]) + number(case["Qy"])
            signature = number(case["R"]) + number(case["S"])
            wanted = str(case["Result"].startswith("P"))
            yield line(wanted, "p256", key, sha256(case["Msg"]), signature)
    for case in cases("asymmetric/ECDSA/FIPS_186-3/SigGen.rsp", "S"):
        if case["section"] == "P-256,SHA-256":
            key = number(case["Qx"]) + number(case["Qy"])
            signature = number(case["R"]) + number(case["S"])
            yield line("True", "p256", key, sha256(case["Msg"]), signature)
    for case in cases("asymmetric/ECDSA/FIPS_186-3/PKV.rsp", "Result"):
        if case["section"] == "P-256":
            size = max(32, (len(case["Qx"]) + 1) // 2, (len(case["Qy"]) + 1) // 2)
            key = number(case["Qx"], size) + number(case["Qy"], size)
            yield line(str(case["Result"].startswith("P")), "point", key)


def pss() -> Iterator[str]:
    for case in cases("asymmetric/RSA/FIPS_186-2/SigVerPSS_186-3.rsp", "Result"):
        bits = int(case["mod"])
        if case["SHAAlg"] == "SHA256" and bits >= 2048:
            wanted = str(case["Result"].startswith("P"))
            salt = f"{len(case['SaltVal']) // 2:02x}"
            parts = (
                case["n"],
                number(case["e"]),
                sha256(case["Msg"]),
                number(case["S"], bits // 8),
            )
            yield line(wanted, "pss_salt", *parts, salt)
            # To COSE a salt of 10 bytes is no signature at all.
            yield line("False", "pss", *parts)


def derive() -> Iterator[str]:
    for case in cases("HMAC/rfc-4231-sha256.txt", "MD"):
        yield line(case["MD"], "hmac", case["Key"], case["Msg"])
    for path in ("KDF/rfc-5869-HKDF-SHA256.txt", "KDF/hkdf-generated.txt"):
        for case in cases(path, "OKM"):
            size = f"{int(case['L']):04x}"
            yield line(case["OKM"], "hkdf", case["IKM"], case["salt"], case["info"], size)


if __name__ == "__main__":
    text = "".join([*ccm(), *ecdsa(), *pss(), *derive()])
    (HERE / "nist.txt").write_text(text)
    print(len(text.splitlines()), "cases")
