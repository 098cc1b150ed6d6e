"""Hold all sessions of a running authority, on one thread. It knows the database and no network.

Entry points: engine.Engine; commands.job sends one command; jobs runs work of several steps.
May import: protocol, store.
"""
