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
    with refused("backup-damaged") as found:
        opened(b"age-encryption.org/v1\n" + b"-> x\n\n" * 40_000, passphrase=PASSPHRASE)
    assert "no age file" in str(found)
    with refused("backup-damaged"):
        opened(b"age-encryption.org/v1\n" + b"-> x\n\n" * 21 + b"--- " + b"A" * 43 + b"\n" + file)


def test_a_file_for_keys_asks_for_no_passphrase():
    file = sealed(b"x", recipients=[age.read_recipient(RECIPIENT)])
    assert age.passphrase_work(io.BytesIO(file)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b" 4\n", b"\n"),
        (b" 4\n", b" 4 4\n"),
        (b" 4\n", b" 04\n"),
        (b" 4\n", b" four\n"),
    ],
)
def test_a_passphrase_of_another_form_is_refused(old, new):
    file = sealed(b"x", passphrase=PASSPHRASE, work=WORK).replace(old, new, 1)
    with refused("backup-damaged"):
        opened(file, passphrase=PASSPHRASE)
    with refused("backup-damaged"):
        age.passphrase_work(io.BytesIO(file))


MAC = b"--- " + b"A" * 43 + b"\n"
STANZA = b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n"


@pytest.mark.parametrize(
    "lines",
    [
        MAC,
        STANZA + b"---\n",
        STANZA + b"---" + b"A" * 43 + b"\n",
        STANZA + b"--- " + b"A" * 42 + b"\n",  # 31 bytes
        STANZA + b"--- " + b"A" * 42 + b"B\n",  # bits that belong to no byte
        STANZA.replace(b"->", b"=>") + MAC,
        b"->\n\n" + MAC,
        STANZA + b"-> scrypt " + b"A" * 22 + b" 4\n\n" + MAC,
    ],
    ids=[
        "no key",
        "no MAC",
        "no space",
        "short",
        "bits",
        "arrow",
        "no kind",
        "a passphrase beside a key",
    ],
)
def test_a_header_of_another_form_is_refused(lines):
    with refused("backup-damaged"):
        age.is_for_passphrase(io.BytesIO(b"age-encryption.org/v1\n" + lines))


def test_another_version_is_refused():
    with refused("backup-damaged") as found:
        age.is_for_passphrase(io.BytesIO(b"age-encryption.org/v2\n" + STANZA + MAC))
    assert "version 1" in str(found)


def test_a_file_key_of_another_length_is_none():
    salt = bytes(16)
    wrapping = age.Scrypt(age._SCRYPT_LABEL + salt, 32, 1 << WORK, 8, 1).derive(PASSPHRASE)
    body = age.ChaCha20Poly1305(wrapping).encrypt(bytes(12), bytes(15), None)
    stanza = age._Stanza(b"scrypt", (age._base64(salt), b"%d" % WORK), body)
    with refused("passphrase-wrong"):
        age._unwrap([stanza], None, PASSPHRASE)


def test_a_last_chunk_without_a_byte_is_refused():
    """Else one content would have two forms."""
    data = bytes(age.CHUNK)
    file = sealed(data, passphrase=PASSPHRASE, work=WORK)
    cipher = age.Reader(io.BytesIO(file), passphrase=PASSPHRASE)._cipher
    chunks = cipher.encrypt(age._chunk_nonce(0, False), data, None)
    chunks += cipher.encrypt(age._chunk_nonce(1, True), b"", None)
    with refused("backup-damaged"):
        opened(file[: -len(data) - 16] + chunks, passphrase=PASSPHRASE)


@pytest.mark.parametrize(
    "values",
    [
        [*bech32._regroup(bytes(32), 8, 5, pad=True)[:-1], 1],
        [*bech32._regroup(bytes(35), 8, 5, pad=True), 0],
    ],
    ids=["a bit", "a character"],
)
def test_bits_of_a_key_that_belong_to_no_byte(values):
    checksum = bech32._polymod(bech32._expand("age") + values + [0] * 6) ^ 1
    values = [*values, *(checksum >> 5 * (5 - index) & 31 for index in range(6))]
    with pytest.raises(ValueError, match="no byte"):
        bech32.decode("age", "age1" + "".join(bech32._CHARSET[value] for value in values))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1",
        RECIPIENT[:-1],
        RECIPIENT[:-1] + "q",
        RECIPIENT.replace("m", "M", 1),
        "b" + RECIPIENT[1:],
        IDENTITY,
    ],
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
