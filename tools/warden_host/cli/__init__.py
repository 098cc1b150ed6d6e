"""The command line `warden`. A command reads its options, asks the packages below, and prints.

Entry point: main.main.
May import: every package. No package imports it.
"""
