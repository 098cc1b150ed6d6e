"""Run `warden` as `python -m warden_host.cli`."""

from warden_host.cli.entry import main

main()
