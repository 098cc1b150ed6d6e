"""A browser without a window, for the console of `warden serve --web`."""

import http.client
import re
import time
from urllib.parse import urlencode

from process_kit import PATIENCE_S
from warden_host.fleet.fleet import Fleet
from warden_host.service import web_passwords
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin

PASSWORD = "a long enough phrase"
SECRET = b"0123456789abcdefghij"
HASH = web_passwords.hash_password(PASSWORD)
TYPE_FORM = "application/x-www-form-urlencoded"


class Browser:
    """One that keeps the cookie and sends forms as a page of the console would."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""  # of the session
        self.others: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        sent = {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": TYPE_FORM}
        cookies = self.others | ({"warden": self.cookie} if self.cookie else {})
        sent |= {"Cookie": "; ".join(f"{one}={value}" for one, value in cookies.items())}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value}
        connection.request(method, path, body or None, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        for line in answer.headers.get_all("set-cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            if name == "warden":
                self.cookie = value
            else:
                self.others[name] = value
        connection.close()
        return answer.status, text

    def get(self, path: str) -> tuple[int, str]:
        return self.ask("GET", path)

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        return self.ask("POST", path, urlencode(fields))

    def log_in(self, name: str, step: int, password: str = PASSWORD) -> int:
        code = web_passwords.totp(SECRET, step).decode()
        return self.post("/login", name=name, password=password, code=code)[0]

    def token(self, path: str = "/") -> str:
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.get(path)[1])
        assert found is not None
        return found[1]


def code_now() -> str:
    """Return the code that an authenticator with SECRET shows."""
    return web_passwords.totp(SECRET, int(time.time()) // web_passwords.STEP_S).decode()


def let_in(fleet: Fleet, browser: Browser, name: str) -> None:
    """Log an operator in as if no code was ever used."""
    with Store(fleet.database) as store:
        store.put_web_login(WebLogin(name, HASH, SECRET))
    assert browser.log_in(name, int(time.time()) // web_passwords.STEP_S) == 303
