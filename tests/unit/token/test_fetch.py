"""The client of a token server: it accepts a whole, bounded answer that is a token."""

import asyncio
import binascii
import json

from harness import check, equal, has_text, raises
from warden.errors import LinkError, PeerError
from warden.token.fetch import fetch
from warden.token.terms import Terms
from web_model import Web

SLOW = True

WEBS = []  # that of the last run()

TERMS = [
    1,
    0,
    b"https://id.example:8443/oauth/token",
    b"lock 1",
    b"p&ss:w\xc3\xb6rd\x00",
    b"",
    "basic",
    None,
]


def terms(**changes):
    fields = list(TERMS)
    for name, value in changes.items():
        fields[("v", "number", "uri", "client", "secret", "scope", "way", "trust").index(name)] = (
            value
        )
    return Terms(fields)


def answer(body=None, status=b"200 OK", more=b"", length=None, **changes):
    """An answer with a token, or with another body."""
    if body is None:
        fields = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 3600}
        fields.update(changes)
        body = json.dumps({key: fields[key] for key in fields if fields[key] is not None}).encode()
    size = b"Content-Length: " + str(len(body) if length is None else length).encode() + b"\r\n"
    return b"HTTP/1.1 " + status + b"\r\n" + size + more + b"\r\n" + body


def run(data, dribble=100000, **changes):
    web = Web(lambda _: data, dribble)
    WEBS[:] = [web]
    return asyncio.run(fetch(web, terms(**changes)))


def refused(code, data, dribble=100000):
    return raises(code, run, data, dribble)


def test_the_request():
    equal(run(answer()), (b"a.b.c", 3600))
    head, body = WEBS[0].requests[0].split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    equal(WEBS[0].places, [("id.example", 8443)])
    equal(lines[:2], [b"POST /oauth/token HTTP/1.1", b"Host: id.example:8443"])
    equal(body, b"grant_type=client_credentials")
    check(b"Content-Length: %d" % len(body) in lines)
    check(b"Content-Type: application/x-www-form-urlencoded" in lines)
    (proof,) = [line for line in lines if line.startswith(b"Authorization: Basic ")]
    # RFC 6749 section 2.3.1: both parts in the form encoding before they are joined.
    equal(binascii.a2b_base64(proof[21:]), b"lock%201:p%26ss%3Aw%C3%B6rd%00")


def test_the_proof_in_the_body():
    run(answer(), way="body", scope=b"read write", uri=b"https://id.example/t")
    head, body = WEBS[0].requests[0].split(b"\r\n\r\n")
    check(b"Authorization" not in head and b"Host: id.example\r\n" in head)
    equal(
        body,
        b"grant_type=client_credentials&scope=read%20write"
        b"&client_id=lock%201&client_secret=p%26ss%3Aw%C3%B6rd%00",
    )


def test_every_byte_of_a_secret():
    secret = bytes(range(256))
    run(answer(), way="body", secret=secret)
    sent = WEBS[0].requests[0].split(b"client_secret=")[1]
    equal(len(sent), 66 + 190 * 3)
    back = bytearray()
    while sent:
        back.extend(binascii.unhexlify(sent[1:3]) if sent[:1] == b"%" else sent[:1])
        sent = sent[3:] if sent[:1] == b"%" else sent[1:]
    equal(bytes(back), secret)


def test_answers_in_pieces_and_chunks():
    for dribble in (1, 7, 511):
        equal(run(answer(), dribble), (b"a.b.c", 3600))
    body = answer().split(b"\r\n\r\n")[1]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    parts = b"%x\r\n%s\r\n%X ;name=x\r\n%s\r\n0\r\n\r\n"
    chunked = head + parts % (10, body[:10], len(body) - 10, body[10:])
    for dribble in (1, 100000):
        equal(run(chunked, dribble), (b"a.b.c", 3600))


def test_chunks_that_are_none():
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for rest, code in (
        (b"\r\n", "https-malformed"),
        (b"xyz\r\n", "https-malformed"),
        (b"-1\r\n", "https-malformed"),
        (b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", "https-malformed"),
        (b"2\r\n{}x\r\n0\r\n\r\n", "https-malformed"),
        (b"000000002\r\n{}\r\n0\r\n\r\n", "https-malformed"),
        (b"1001\r\n", "token-malformed"),
        (b"ffffffff\r\n", "token-malformed"),
        (b"800\r\n" + b" " * 2048 + b"\r\n801\r\n", "token-malformed"),
    ):
        refused(code, head + rest)
    # Endless small ones are bounded as headers are.
    refused("https-malformed", head + (b"1;" + b"x" * 300 + b"\r\n \r\n") * 60)


def test_bodies_without_one_end():
    good = answer()
    for old, new in (
        (b"Content-Length", b"X-Length"),
        (b"Content-Length: ", b"Transfer-Encoding: chunked\r\nContent-Length: "),
        (b"Content-Length: ", b"Content-Length: 5\r\nContent-Length: "),
        (b"Content-Length: ", b"Content-Length: +"),
        (b"Content-Length: ", b"Content-Length: 0x"),
        (b"Content-Length: ", b"Content-Encoding: gzip\r\nContent-Length: "),
        (b"Content-Length: ", b"Transfer-Encoding: gzip\r\nX: "),
    ):
        check(old in good)
        refused("https-malformed", good.replace(old, new, 1))
    refused("link-closed", answer(length=2000))
    # What a length leaves out of the body makes it no JSON.
    refused("token-malformed", answer(length=20))


def test_sizes_before_memory():
    """A length above the limit is refused before a byte of the body was asked for."""
    for length in (4097, 99999999):
        error = refused("token-malformed", answer(b" " * 5000, length=length))
        has_text(error, "too large")
        check(WEBS[0].out)
    equal(run(answer(access_token="t" * 3072)), (b"t" * 3072, 3600))
    refused("token-malformed", answer(access_token="t" * 3073))
    refused("https-malformed", answer(length=999999999))


def test_json_that_is_none():
    whole = answer().split(b"\r\n\r\n")[1]
    for body in [whole[:size] for size in range(len(whole))]:
        refused("token-malformed", answer(body))
    for body in (
        b"[]",
        b"null",
        b'"token"',
        whole + b"}",
        whole[:-1] + b"]",
        whole[:-1] + b', "x": [[[[[[[[[1]]]]]]]]]}',
        whole[:-1] + b', "x": {"y": 1}',
        whole + b"\x00",
    ):
        refused("token-malformed", answer(body))


def test_answers_that_are_no_token():
    for changes in (
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 5},
        {"access_token": "a b"},
        {"access_token": "a\n"},
        {"access_token": "\u00e4"},
        {"access_token": "\x7f"},
        {"token_type": None},
        {"token_type": "mac"},
        {"token_type": 1},
        {"expires_in": None},
        {"expires_in": "3600"},
        {"expires_in": 59},
        {"expires_in": -1},
        {"expires_in": 3600.5},
        {"expires_in": True},
    ):
        refused("token-malformed", answer(**changes))
    equal(run(answer(token_type="bearer", expires_in=60, scope="x", extra=[1]))[1], 60)
    equal(run(answer(expires_in=10**12))[1], 30 * 86400)


def test_refusals_and_outages():
    error = b'{"error": "invalid_client"}'
    for status in (b"400 Bad Request", b"401 Unauthorized", b"403 Forbidden", b"404 Not Found"):
        made = refused("token-refused", answer(error, status))
        check(isinstance(made, PeerError) and not isinstance(made, LinkError))
        has_text(made, status[:3].decode())
    # A redirect is not followed: the secret is for this server alone.
    refused("token-refused", answer(b"", b"302 Found", b"Location: https://evil.example/\r\n"))
    refused("token-refused", answer(status=b"201 Created"))
    for status in (b"429 Too Many Requests", b"500 Oops", b"502 Bad Gateway", b"503 Busy"):
        check(isinstance(refused("token-unavailable", answer(error, status)), LinkError))


def test_no_secret_in_an_error():
    for data in (
        answer(b"{}", b"401 No"),
        answer(access_token="very secret\n"),
        b"x",
        answer(b""),
    ):
        try:
            run(data)
        except PeerError as error:
            check("secret" not in str(error) and "p&ss" not in str(error))
        else:
            check(False)


def test_terms():
    good = [b"c" * 32, b"d" * 32]
    check(terms().trust is None and terms().basic and terms().number == 0)
    equal(terms(trust=[[b"ca"], good]).trust.pins, good)
    equal(terms(number=(1 << 32) - 1, secret=b"s" * 512, scope=b"s" * 512).number, (1 << 32) - 1)
    for changes in (
        {"v": 2},
        {"number": -1},
        {"number": 1 << 32},
        {"number": True},
        {"uri": "https://a.example/"},
        {"uri": b"https://a.example/" + b"x" * 512},
        {"client": b""},
        {"client": b"x" * 513},
        {"secret": b""},
        {"secret": None},
        {"scope": "x"},
        {"scope": b"x" * 513},
        {"way": "digest"},
        {"way": b"basic"},
        {"trust": []},
        {"trust": [[], good]},
        {"trust": [[b"ca"], good[:1]]},
        {"trust": [[b"ca"], [good[0], good[0]]]},
        {"trust": [[b"ca"], [good[0], b"short"]]},
        {"trust": [[b"x" * 2049], good]},
        {"trust": [[b"ca"] * 3, good]},
    ):
        raises("bad-bundle", terms, **changes)
    for uri in (b"http://a.example/", b"https://a.example", b"https://u:p@a.example/"):
        raises("https-address", terms, uri=uri)
    raises("bad-bundle", Terms, TERMS[:7])
    raises("bad-bundle", Terms, None)
