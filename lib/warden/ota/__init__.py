"""Install updates, and start the board with the slot that is to run.

Entry points: `service.make` in a connected agent, `boot.start` at a board's start. May import
`net` and `vault`.
"""
