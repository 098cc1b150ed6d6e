"""`make demo`: the main job of Warden on one screen. Run it with `python -m demo` and `examples` on the path."""
