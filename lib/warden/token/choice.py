"""Log in by a certificate or by a token: the token is fetched where its way is taken."""

from micropython import const

from .keeper import Tokens
from .ways import use_way

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ..agent.interface import Agent
    from ..errors import PeerError


def start(agent: "Agent") -> Tokens:
    """Let the agent log in by either; return the keeper, whose run() is a task of the agent."""
    agent.token = tokens = TokenChoice(agent)
    return tokens


class TokenChoice(Tokens):
    """The token of an agent that has a certificate as well."""

    async def prepare(self) -> None:
        """Give the client what the next connection needs; raises as Tokens.prepare()."""
        if use_way(self._agent) == "certificate":
            self.renewing = False
            self._agent.client.accepted = False  # of this attempt
        else:
            await super().prepare()

    def failed(self, error: "PeerError") -> bool:
        """Note a connection that ended; return whether to try again at once with another token."""
        return self._agent.client.user is not None and super().failed(error)
