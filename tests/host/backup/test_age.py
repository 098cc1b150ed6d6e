"""The age format: its vectors, made by rage, and everything that a changed file can be."""

import base64
import io

import pytest
from host_kit import refused
from hypothesis import given
from hypothesis import strategies as st
from warden_host.backup import age, bech32

# By rage, through pyrage 1.4.0: the header has a stanza of no known kind as well.
IDENTITY = "AGE-SECRET-KEY-14QUESY3DQCCTNAZXKV73C6MVU4DJDAFVKXNVN977VLN60VJZ5M0QWPS38X"
RECIPIENT = "age1m7rdldpwq6er97fd6xzgax9wh8lt5llnsxeunj7wkff2qyyw89dqh0txyt"
FILE = (
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSAxaGhuVC9SN3dpYTRFcEtyQTFJWFFhM0NoZ3NXcFEwM1lqVzB4"
    "eWt0cmgwCm1LYW0xeXN6SHlCZGYxUzZtK3pRVFFZYjFnSG4rS2NSN2pGM2s0ZGxCdjQKLT4gUUFfZy1ncmVhc2Ugc0F1"
    "P25AamMgS29pZ1RQJFYgP0lxIEBrUjp7UgpHR2lscmo4Ci0tLSB0RTllSXJCc3hlNUVJUnFhM3kxbjJpYzNaeWlHdFhF"
    "Tk04NTh3KzVNOUlFCh/omk0V5yGK3lFQTxQ9F/kGURZvY5r+VUGaEGEchQzASxUHBFWsfR2hRza050Q="
)
WORK = 4  # log2 of scrypt's N: a test needs no more
PASSPHRASE = b"correct horse"


def sealed(data: bytes, **lock) -> bytes:
    out = io.BytesIO()
    writer = age.Writer(out, **lock)
    for at in range(0, len(data), 50_000):
        writer.write(data[at : at + 50_000])
    writer.close()
    return out.getvalue()


def opened(data: bytes, **key) -> bytes:
    reader = age.Reader(io.BytesIO(data), **key)
    content = io.BufferedReader(reader).read()
    reader.check_end()
    return content


def test_a_file_of_another_program_opens():
    identity = age.read_identity(f"# created: today\n{IDENTITY}\n".encode())
    assert opened(base64.b64decode(FILE), identity=identity) == b"x25519 by rage"
    assert bech32.encode("age", age.read_recipient(RECIPIENT)) == RECIPIENT


SIZES = [0, 1, age.CHUNK - 1, age.CHUNK, age.CHUNK + 1, 3 * age.CHUNK]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens_with_its_key_alone(size):
    secret, recipient = age.new_identity()
    other, _ = age.new_identity()
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    keys = [age.read_recipient(one) for one in (RECIPIENT, recipient)]
    file = sealed(data, recipients=keys)
    assert opened(file, identity=age.read_identity(secret.encode())) == data
    with refused("backup-key"):
        opened(file, identity=age.read_identity(other.encode()))
    with refused("backup-key"):
        opened(file, passphrase=PASSPHRASE)
    under = sealed(data, passphrase=PASSPHRASE, work=WORK)
    assert opened(under, passphrase=PASSPHRASE) == data
    with refused("passphrase-wrong"):
        opened(under, passphrase=PASSPHRASE + b"!")
    with refused("passphrase-missing"):
        opened(under, identity=age.read_identity(secret.encode()))


@pytest.mark.parametrize("size", [10, age.CHUNK, age.CHUNK + 10])
def test_a_file_that_was_cut_or_extended_does_not_open(size):
    file = sealed(b"x" * size, passphrase=PASSPHRASE, work=WORK)
    content = len(file) - size - 16 * -(-size // age.CHUNK)
    cuts = {0, 5, 100, content - 16, content, content + 8, len(file) - 1, len(file) - 26}
    for cut in cuts:
        with refused("backup-damaged"):
            opened(file[:cut], passphrase=PASSPHRASE)
    for more in (b"\0", file[content:], bytes(16)):
        with refused("backup-damaged"):
            opened(file + more, passphrase=PASSPHRASE)


def test_chunks_can_not_change_places():
    file = sealed(b"x" * 2 * age.CHUNK + b"y" * 2 * age.CHUNK, passphrase=PASSPHRASE, work=WORK)
    whole = age.CHUNK + 16
    head, chunks = file[: -4 * whole], file[-4 * whole :]
    first, second, third, last = (chunks[at * whole : (at + 1) * whole] for at in range(4))
    for order in ((second, first, third, last), (first, third, second, last), (first, last)):
        with refused("backup-damaged"):
            opened(head + b"".join(order), passphrase=PASSPHRASE)


@given(st.data())
def test_a_changed_byte_is_found(data):
    identity = age.read_identity(IDENTITY.encode())
    file = bytearray(sealed(b"secret" * 9, recipients=[age.read_recipient(RECIPIENT)]))
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        opened(bytes(file), identity=identity)
    except age.HostError as error:
        assert error.code in ("backup-damaged", "backup-key", "passphrase-missing")
    else:
        pytest.fail("it opened")


@given(st.binary(max_size=400))
def test_anything_else_is_refused_by_its_code(data):
    for head in (b"", b"age-encryption.org/v1\n", b"age-encryption.org/v1\n-> scrypt "):
        with refused("backup-damaged"):
            opened(head + data, passphrase=PASSPHRASE)


def test_a_header_that_asks_for_all_memory_is_refused():
    file = sealed(b"x", passphrase=PASSPHRASE, work=WORK)
    with refused("backup-damaged"):
        opened(file.replace(b" 4\n", b" 30\n", 1), passphrase=PASSPHRASE)
    with refused("backup-damaged"):
        opened(b"age-encryption.org/v1\n" + b"-> x\n\n" * 4000, passphrase=PASSPHRASE)
    with refused("backup-damaged"):
        opened(b"age-encryption.org/v1\n" + b"-> x\n\n" * 21 + b"--- " + b"A" * 43 + b"\n" + file)


@pytest.mark.parametrize(
    "text",
    ["", "age1", RECIPIENT[:-1], RECIPIENT[:-1] + "q", RECIPIENT.replace("m", "M", 1), IDENTITY],
)
def test_what_is_no_recipient(text):
    with refused("backup-key"):
        age.read_recipient(text)


@pytest.mark.parametrize(
    "text", ["", RECIPIENT, f"{IDENTITY}\n{IDENTITY}\n", IDENTITY[:-1], "\xff"]
)
def test_what_is_no_key_file(text):
    with refused("backup-key"):
        age.read_identity(text.encode("latin-1"))


@pytest.mark.parametrize("body", [b"A" * 65 + b"\n\n", b"A" * 68 + b"\n" + b"A" * 4 + b"\n"])
def test_a_body_of_longer_lines_is_refused(body):
    with refused("backup-damaged"):
        age.is_for_passphrase(io.BytesIO(header(body)))


def test_a_body_ends_with_a_shorter_line():
    assert not age.is_for_passphrase(io.BytesIO(header(b"A" * 64 + b"\n\n")))
    with refused("backup-damaged"):
        age.is_for_passphrase(io.BytesIO(header(b"A" * 64 + b"\n")))


def header(body: bytes) -> bytes:
    return b"age-encryption.org/v1\n-> x\n" + body + b"--- " + b"A" * 43 + b"\n"
