"""What three versions of mosquitto write into their logs."""

# As the versions write it: the same log-in with a wrong password, and the same hand-shake by a
# client that does not trust the fleet's CA.
SAMPLES = {
    "2.0.11": (
        """\
New connection from 10.0.0.7:55123 on port 8883.
Client <unknown> disconnected, not authorised.
New connection from 10.0.0.7:55323 on port 8883.
OpenSSL Error[0]: error:0A000418:SSL routines::tlsv1 alert unknown ca
Client <unknown> disconnected: Protocol error.
""",
        "",
    ),
    "2.0.21": (
        """\
New connection from 10.0.0.7:55123 on port 8883.
Client d:lock:D1 disconnected, not authorised.
New connection from 10.0.0.7:55323 on port 8883.
OpenSSL Error[0]: error:0A000418:SSL routines::tlsv1 alert unknown ca
Client <unknown> disconnected: Protocol error.
""",
        "d:lock:D1",
    ),
    "2.1.2": (
        """\
New connection from 10.0.0.7:55123 on port 8883.
Client d:lock:D1 [10.0.0.7:55123] disconnected: not authorised.
New connection from 10.0.0.7:55323 on port 8883.
OpenSSL Error while trying to get the error[0]: error:0A000418:SSL routines::tlsv1 alert unknown ca
Client 10.0.0.7 [10.0.0.7:55323] disconnected: Protocol error.
""",
        "d:lock:D1",
    ),
}
