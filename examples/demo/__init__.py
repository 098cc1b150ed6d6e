"""Demonstrate the main job of Warden on one screen: `make demo`.

Run it as `python -m demo` with `examples` on the path.
"""
