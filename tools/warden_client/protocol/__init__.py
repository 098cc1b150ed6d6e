"""The application's end of docs/protocol.md, sealed and plain, without I/O.

Entry points: session.Session for a sealed device, plain.PlainPeer for a plain one.
May import: the modules of the package above that have no connection.
"""
