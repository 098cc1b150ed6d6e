"""The console in a browser: a process that asks `warden serve` for all that it shows."""
