"""Load and join the parts that board.py names: `load.parts`, `load.boot_slots`, `panel.panel`.

May import `hal`, `ota` and `vault`: hardware meets features here and in `agent`.
"""
