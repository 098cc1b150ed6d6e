"""What the session layer and the cryptography take on this chip. Runs as /app/costs.py.

The test calls these functions over the REPL. Each prints what it returns: messages in
hexadecimal, and the (microseconds, bytes allocated) of the work between them.
"""

import gc
import hashlib
import time
from binascii import hexlify, unhexlify

from warden.crypto import p256
from warden.session.command import Commands
from warden.session.inbox import Inbox
from warden.session.incident import Incidents
from warden.session.session import HelloCounter, Session
from warden.wire.names import COSE, Topics

state = {}


class Vault:
    """As much of it as a hello needs."""

    generation = 0


def measure(work, count=True):
    """Print (microseconds, bytes) of work(), and return its result.

    count: without collections, so that what stays and what is garbage counts. Signatures leave
    more garbage than the heap holds: they run with collections, as on a board.
    """
    gc.collect()
    if count:
        gc.disable()
    before = gc.mem_alloc()
    began = time.ticks_us()
    result = work()
    took = time.ticks_diff(time.ticks_us(), began)
    size = gc.mem_alloc() - before
    gc.enable()
    print("cost", took, size)
    return result


def print_log(code, text):
    print("log", code, text)


def set_relay(args):
    return {"on": args["on"]}


def print_hello(type, device, appid, key, policy):
    """Make a session, and print its hello."""
    names = Topics(type, device)
    commands = Commands()
    commands.grant(appid, ("set_relay",))
    commands.register("set_relay", set_relay)
    counter = HelloCounter(1, bytes(32), Vault)
    session = Session(names, appid, unhexlify(key), counter, unhexlify(policy), True)
    state["names"], state["session"] = names, session
    state["inbox"] = Inbox(names, commands, Incidents(), [session], None, int)
    session.start(0)
    print("bytes", hexlify(session.tick(0)[1]).decode())


def print_answer(command, message, now_ms):
    """Pass a message through all gates, run its handler, and print the answer."""
    inbox = state["inbox"]
    topic = memoryview(state["names"].command(command, COSE).encode())
    payload = memoryview(bytearray(unhexlify(message)))

    def work():
        call = inbox.receive(topic, payload, False, now_ms)
        if call is None:
            return
        call.late(now_ms)
        call.finish(call.run(print_log), print_log)

    measure(work)
    for _, _, data in inbox.out:
        print("bytes", hexlify(data).decode())
    del inbox.out[:]
    print("up", state["session"].up)


def print_verdict(key, message, signature, table):
    """Verify a P-256 signature. table: whether with the key's comb table."""
    public = p256.PublicKey(unhexlify(key))
    digest, signature = hashlib.sha256(message).digest(), unhexlify(signature)
    if table:
        made = measure(public.make_table, False)
        public.load_table = lambda: made
    print("valid", measure(lambda: public.verify(digest, signature), False))
