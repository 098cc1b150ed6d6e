"""`warden serve`: links to the broker, the thread that owns the engine, the control socket.

Entry point: run.serving.
May import: every package but sim and cli.
"""
