"""Load and join the parts that board.py names: `load.parts`, `slots.boot_slots`, `panel.panel`;
check what it says: `check.problems`.

May import `hal`, `ota` and `vault`: hardware meets features here and in `agent`.
"""
