"""Hold all sessions of a running authority, on one thread and without I/O.

Entry points: engine.Engine; commands.job sends one command; jobs runs work of several steps.
May import: protocol, store.
"""
