"""The sealed and plain protocols of docs/protocol.md, without I/O.

Entry points: session.Session for a sealed device, plain.PlainPeer for a plain one, policy.record.
May import: the base modules alone. Every other package may import it, except fleet and broker.
"""
