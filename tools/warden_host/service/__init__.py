"""Run `warden serve`: links to the broker, the engine's thread, the control socket.

Entry point: run.serving.
May import: every package but sim and cli.
"""
