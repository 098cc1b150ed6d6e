"""The corpora, kept as text: a line of hex an input, in corpus/NAME.txt.

python tests/fuzz/corpus.py unpack NAME FOLDER     one file an input, for the fuzzer
python tests/fuzz/corpus.py pack NAME FOLDER       the shortest inputs first, at most 400
"""

import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ("cbor", "cose", "x509")
MOST = 400
LONGEST = 1024


def load(name: str) -> list[bytes]:
    lines = (HERE / "corpus" / f"{name}.txt").read_text().splitlines()
    return [bytes.fromhex(line) for line in lines]


def unpack(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for data in load(name):
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def pack(name: str, folder: Path) -> None:
    found = {path.read_bytes() for path in folder.iterdir() if path.is_file()}
    if not found:
        sys.exit(f"{name}: nothing came of the merge")
    kept = sorted((data for data in found if len(data) <= LONGEST), key=lambda d: (len(d), d))[
        :MOST
    ]
    (HERE / "corpus" / f"{name}.txt").write_text("".join(data.hex() + "\n" for data in kept))
    print(f"{name}: {len(kept)} inputs kept")


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
