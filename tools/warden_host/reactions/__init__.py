"""What the fleet does by itself about a device that is attacked, or attacks: alert, quarantine,
de-register. `settings.load` reads [reactions]; service/reactor.py carries the reactions out."""
