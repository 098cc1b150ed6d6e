"""Send codes by mail: one SMTP submission a message, over verified TLS, with time-outs.

Each server on the way and the mailbox can read a mail: the code's short validity and single use
limit what that is worth.
"""

import contextlib
import io
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

from warden_client import secretfile

from warden_host.errors import HostError
from warden_host.otp.notify import delivery
from warden_host.otp.notify.delivery import Message, Undelivered, compose_mail
from warden_host.otp.settings import MAIL_PASSWORD, Mail

TIMEOUT_S = 10.0


class _Smtp(smtplib.SMTP):
    """Limit a whole attempt: before STARTTLS anyone on the network can be the server."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._until = time.monotonic() + delivery.WHOLE_S
        super().__init__(*arguments, **named)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(
                delivery.LimitedReader(self.sock, TIMEOUT_S, self._until)
            )
        return super().getreply()


class _SmtpTls(_Smtp, smtplib.SMTP_SSL):
    pass


class MailWay:
    """Send messages by mail."""

    def __init__(self, settings: Mail, keys: Path) -> None:
        self._settings = settings
        self._keys = keys

    def send(self, message: Message) -> None:
        try:
            server = self._connected()
            try:
                server.send_message(self._written(message))
            finally:
                # The server has accepted the mail or not: an error of QUIT changes nothing, and
                # trying again would send a code twice.
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    server.quit()
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            # 4xx: later, perhaps.
            final = all(code >= 500 for code, _ in error.recipients.values())
            raise Undelivered("the mail server does not take the address", final=final) from None
        except smtplib.SMTPAuthenticationError:
            raise Undelivered(
                f"the mail server refused user or password ({MAIL_PASSWORD})"
            ) from None
        except smtplib.SMTPServerDisconnected:
            raise Undelivered("the mail server hung up, or said nothing") from None
        except smtplib.SMTPResponseException as error:
            # 4xx: later, perhaps. The server's words stay out: they may quote the mail.
            raise Undelivered(
                f"the mail server said {error.smtp_code}", final=error.smtp_code >= 500
            ) from None
        except ssl.SSLError as error:
            raise Undelivered(f"TLS with the mail server failed ({error.reason})") from None
        except smtplib.SMTPException as error:
            raise Undelivered(f"the mail server gave up ({type(error).__name__})") from None
        except OSError as error:
            raise Undelivered(
                f"the mail server can't be reached ({error.strerror or type(error).__name__})"
            ) from None
        except HostError as error:
            raise Undelivered(error.text) from None

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        server: smtplib.SMTP
        if settings.security == "tls":
            server = _SmtpTls(
                settings.host, settings.port, timeout=TIMEOUT_S, context=self._context()
            )
        else:
            server = _Smtp(settings.host, settings.port, timeout=TIMEOUT_S)
        try:
            if settings.security == "starttls":
                server.starttls(context=self._context())  # raises where the server offers none
            if settings.user:
                password = secretfile.read(self._keys / MAIL_PASSWORD).decode().rstrip("\n")
                server.login(settings.user, password)
        except BaseException:
            server.close()
            raise
        return server

    def _context(self) -> ssl.SSLContext:
        ca = self._settings.ca
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _written(self, message: Message) -> EmailMessage:
        subject, text = compose_mail(message)
        mail = EmailMessage()
        mail["From"] = self._settings.sender
        mail["To"] = message.address
        mail["Subject"] = subject
        mail["Date"] = formatdate(message.time)
        mail["Message-ID"] = make_msgid(domain=self._settings.sender.rpartition("@")[2])
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no absence note comes back
        mail.set_content(text)
        return mail
