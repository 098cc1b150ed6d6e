"""Write what lets fail2ban enforce the watch's decisions: a filter, an action and a jail."""

from collections.abc import Sequence
from pathlib import Path

NAME = "warden"
_FILTER = r"""# Written by `warden bans fail2ban`: the log of `warden serve` about addresses.
# `mode = bans` follows Warden's decisions, each line of which is one; `mode = attempts` lets
# fail2ban count the refused log-ins itself: then give the jail maxretry and findtime.
[Definition]
mode = bans
_bans = ^ banned <SUBNET> attempts=\d+$
_attempts = ^ refused <ADDR> \d+/\d+ client=[A-Za-z0-9:._%%-]*$
failregex = <_<mode>>
ignoreregex =
datepattern = ^%%Y-%%m-%%dT%%H:%%M:%%S%%z
"""
_ACTION = r"""# Written by `warden bans fail2ban`: with sets of networks, which the action nftables lacks.
[Definition]
actionstart = nft add table inet <table>
              nft add set inet <table> <set> \{ type <addr_type>\; flags interval\; auto-merge\; \}
              nft add chain inet <table> <chain> \{ type filter hook input priority -5\; \}
              nft add rule inet <table> <chain> iif lo accept
              nft add rule inet <table> <chain> tcp dport \{ <port> \} <family> saddr @<set> drop
actionflush = nft flush set inet <table> <set>
actionstop = nft delete chain inet <table> <chain>
             nft delete set inet <table> <set>
actioncheck = nft list set inet <table> <set>
actionban = nft add element inet <table> <set> \{ <ip> \}
actionunban = nft delete element inet <table> <set> \{ <ip> \}

[Init]
table = f2b-warden
set = banned4
chain = input4
family = ip
addr_type = ipv4_addr

[Init?family=inet6]
set = banned6
chain = input6
family = ip6
addr_type = ipv6_addr
"""


def files(log: Path, ports: Sequence[int]) -> dict[str, str]:
    """Return the files' names below /etc/fail2ban, and their texts.

    log: of the watch. ports: of the broker.
    """
    jail = f"""\
# Written by `warden bans fail2ban`.
[{NAME}]
enabled = true
backend = polling
filter = {NAME}[mode=bans]
logpath = {log}
# Warden has counted, and known addresses are none of these lines.
maxretry = 1
findtime = 1d
bantime = -1
banaction = {NAME}
port = {", ".join(map(str, ports))}
action = {NAME}[port="%(port)s"]
"""
    return {
        f"filter.d/{NAME}.conf": _FILTER,
        f"action.d/{NAME}.conf": _ACTION,
        f"jail.d/{NAME}.conf": jail,
    }
