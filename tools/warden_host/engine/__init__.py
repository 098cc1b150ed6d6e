"""All sessions of a running authority, in the hands of one thread, without I/O.

Entry points: engine.Engine; commands.job sends one command; jobs runs work of several steps.
May import: protocol, store.
"""
