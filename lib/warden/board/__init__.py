"""The parts that board.py names, loaded and put together: `load.parts`, `load.boot_slots`, `panel.panel`.

May import `hal`, `ota` and `vault`: hardware meets features here and in `agent`.
"""
