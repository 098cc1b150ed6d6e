"""Records that the host makes for devices and applications, without I/O: policies, tokens.

Entry points: policy.record, access_token.sign. The protocol itself is in the client package.
May import: the base modules alone. Every other package may import it, except fleet and broker.
"""
