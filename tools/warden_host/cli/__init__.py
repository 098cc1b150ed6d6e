"""Read the options of `warden`, call the packages below, and print results.

Entry point: main.main, whose table COMMANDS names the module of each command.
May import: every package. No package imports it.
"""
