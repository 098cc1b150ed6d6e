"""Behaves as the umqtt.simple that current firmware freezes (1.5 and later), which PyPI does not
have.

Not its text: what of it a subclass can notice. Against 1.3.4: connect() takes a time-out, closes
the socket of an earlier connection and sets the time-out on the new one; a false user name means
anonymous; a SUBSCRIBE has a length of any size; unsubscribe() exists; wait_msg() gives the
operation back after a message too.
"""

import socket


class MQTTException(Exception):
    """A code that the server answered with."""


def _two(number):
    return bytes((number >> 8, number & 255))


def _head(first, size):
    out = bytearray((first,))
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return out


class MQTTClient:
    def __init__(
        self,
        client_id,
        server,
        port=0,
        user=None,
        password=None,
        keepalive=0,
        ssl=None,
        ssl_params=None,
    ):
        self.client_id, self.server, self.port = client_id, server, port or 1883
        self.user, self.pswd, self.keepalive = user, password, keepalive
        self.ssl, self.ssl_params = ssl, ssl_params
        self.sock = self.cb = self.lw_topic = self.lw_msg = None
        self.pid = self.lw_qos = 0
        self.lw_retain = False

    def set_callback(self, f):
        self.cb = f

    def set_last_will(self, topic, msg, retain=False, qos=0):
        self.lw_topic, self.lw_msg, self.lw_retain, self.lw_qos = topic, msg, retain, qos

    def _text(self, value):
        self.sock.write(_two(len(value)))
        self.sock.write(value)

    def connect(self, clean_session=True, timeout=None):
        if self.sock:
            self.sock.close()
        self.sock = socket.socket()
        self.sock.settimeout(timeout)
        self.sock.connect(socket.getaddrinfo(self.server, self.port)[0][-1])
        flags, fields = int(clean_session) << 1, [self.client_id]
        if self.lw_topic:
            flags |= 4 | self.lw_qos << 3 | int(self.lw_retain) << 5
            fields += [self.lw_topic, self.lw_msg]
        if self.user:
            flags |= 0xC0
            fields += [self.user, self.pswd]
        head = _head(0x10, 10 + sum(2 + len(field) for field in fields))
        self.sock.write(head + b"\0\4MQTT\4" + bytes((flags,)) + _two(self.keepalive))
        for field in fields:
            self._text(field)
        answer = self.sock.read(4)
        assert answer[0] == 0x20 and answer[1] == 2
        if answer[3]:
            raise MQTTException(answer[3])
        return answer[2] & 1

    def disconnect(self):
        self.sock.write(b"\xe0\0")
        self.sock.close()

    def ping(self):
        self.sock.write(b"\xc0\0")

    def publish(self, topic, msg, retain=False, qos=0):
        size = 2 + len(topic) + len(msg) + (2 if qos else 0)
        head = _head(0x30 | qos << 1 | int(retain), size)
        self.sock.write(head, len(head))
        self._text(topic)
        if qos:
            self.pid += 1
            pid = self.pid
            # As in the original: the id overflows two bytes after 65,535.
            self.sock.write(_two(pid))
        self.sock.write(msg)
        while qos:
            if self.wait_msg() == 0x40:
                answer = self.sock.read(3)
                assert answer[0] == 2
                if answer[1] << 8 | answer[2] == pid:
                    return

    def subscribe(self, topic, qos=0):
        assert self.cb is not None
        self._ask(0x82, topic, bytes((qos,)), 0x90)

    def unsubscribe(self, topic):
        self._ask(0xA2, topic, b"", 0xB0)

    def _ask(self, first, topic, tail, wanted):
        self.pid += 1
        pid = self.pid
        self.sock.write(_head(first, 4 + len(topic) + len(tail)))
        self.sock.write(_two(pid))
        self._text(topic)
        if tail:
            self.sock.write(tail)
        while self.wait_msg() != wanted:
            pass
        answer = self.sock.read(3 + len(tail))
        assert answer[1] << 8 | answer[2] == pid
        if tail and answer[3] == 0x80:
            raise MQTTException(0x80)

    def wait_msg(self):
        first = self.sock.read(1)
        self.sock.setblocking(True)
        if first is None:
            return None
        if first == b"":
            raise OSError(-1)
        if first == b"\xd0":
            assert self.sock.read(1)[0] == 0
            return None
        op = first[0]
        if op & 0xF0 != 0x30:
            return op
        size = shift = 0
        while True:
            byte = self.sock.read(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        length = self.sock.read(2)
        length = length[0] << 8 | length[1]
        topic = self.sock.read(length)
        size -= length + 2
        if op & 6:
            pid = self.sock.read(2)
            size -= 2
        msg = self.sock.read(size)
        self.cb(topic, msg)
        if op & 6 == 2:
            self.sock.write(b"\x40\x02" + pid)
        elif op & 6 == 4:
            assert 0
        return op

    def check_msg(self):
        self.sock.setblocking(False)
        return self.wait_msg()
