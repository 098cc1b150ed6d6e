"""The only files that touch hardware. They import `warden.errors` and each other alone.

A part is a file PART_KIND.py with make(args). board.py names its KIND; board/load.py finds the
files store_KIND.py, rootkey_KIND.py, slots_KIND.py and ask_KIND.py, board/panel.py finds
keypad_KIND.py and display_KIND.py.
"""
