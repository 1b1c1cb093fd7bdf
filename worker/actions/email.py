"""Kind `email`: send a mail by SMTP, or write it into a folder."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import fields, validate

from tiercast.actions import Action, Halt, Job, Permanent, RetryLater, Secret, Skip, Unknown
from tiercast.outbound import Deadline, personal_values

from .mail.addresses import count_written, read_addresses
from .mail.errors import NoConnection
from .mail.folder import write_mail
from .mail.message import Mail, People, build_mail, check_headers
from .mail.place import Folder, Server, read_place
from .mail.sessions import Sessions

#: Where `server` and `from` come from when an action does not name them, so that actions need not repeat them.
SERVER_VARIABLE = "TIERCAST_EMAIL_SERVER"
FROM_VARIABLE = "TIERCAST_EMAIL_FROM"

_ADDRESS_OPTIONS = ("sender", "to", "cc", "bcc", "reply_to")


def _default_server() -> str:
    return os.environ.get(SERVER_VARIABLE) or "smtp://localhost"


def _default_sender() -> str:
    return os.environ.get(FROM_VARIABLE) or f"tiercast@{platform.node() or 'localhost'}"


class Email(Action):
    """Send an e-mail by SMTP, or write it into a folder as an .eml file.

    Repeated like any other action where an attempt ended without an answer. SMTP cannot recognise a repeat, so in
    that rare case a mail can arrive twice; both carry the same Message-ID, made from the job's key, by which mail
    stores may drop the twin. A folder never holds it twice.
    """

    kind = "email"
    #: A mail takes about 0.1 seconds, and one call has to fit the action's timeout.
    max_batch = 20

    class Options(Action.Options):
        server = fields.String(
            load_default=_default_server,
            metadata={"description": f"smtp://host, smtps://host or file:DIR; else {SERVER_VARIABLE}"},
        )
        tls = fields.String(
            load_default=None,
            allow_none=True,
            validate=validate.OneOf(["starttls", "tls", "none"]),
            metadata={"description": "by default STARTTLS, required; none only for localhost"},
        )
        username = fields.String(load_default=None, allow_none=True)
        password = Secret(load_default=None, allow_none=True)
        sender = fields.String(
            data_key="from",
            load_default=_default_sender,
            metadata={"description": f"one address; else {FROM_VARIABLE}"},
        )
        to = fields.String(required=True, metadata={"description": "addresses, separated by commas"})
        cc = fields.String(load_default="")
        bcc = fields.String(load_default="")
        reply_to = fields.String(load_default="")
        subject = fields.String(required=True)
        text = fields.String(load_default="")
        html = fields.String(load_default="")
        headers = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        if not self.options.text and not self.options.html:
            raise ValueError("text: give text, html or both")
        check_headers(self.options.headers)
        self._place = read_place(
            self.options.server,
            tls=self.options.tls,
            username=self.options.username,
            password=self.options.password,
        )
        self.outside = isinstance(self._place, Server)
        self._sessions = Sessions(self._place) if isinstance(self._place, Server) else None
        self._written = {option: count_written(self.options.get(option) or "") for option in _ADDRESS_OPTIONS}

    def perform(self, job: Job) -> str | None:
        return self._send(job, Deadline(job.timeout))

    def perform_many(self, jobs: list[Job]) -> Iterator[tuple[Job, str | Exception | None]]:
        deadline = Deadline(min(job.timeout for job in jobs))
        for job in jobs:
            if not deadline.another():
                return
            try:
                yield job, self._send(job, deadline)
            except (NoConnection, Halt):
                raise
            except (Permanent, RetryLater, Skip, Unknown) as error:
                yield job, error

    def servers(self) -> list[tuple[str, int]]:
        return [(self._place.host, self._place.port)] if isinstance(self._place, Server) else []

    def close(self) -> None:
        if self._sessions is not None:
            self._sessions.close()

    def _send(self, job: Job, deadline: Deadline) -> str:
        mail = self._build(job)
        if self._sessions is not None:
            return self._sessions.deliver(mail, deadline, personal=personal_values(job.event))
        return self._write(job, mail)

    def _build(self, job: Job) -> Mail:
        options = job.options
        sender, to, cc, bcc, reply_to = (
            read_addresses(
                "from" if option == "sender" else option, options.get(option) or "", most=self._written[option]
            )
            for option in _ADDRESS_OPTIONS
        )
        if not to:
            raise Skip("option to is empty for this event")
        if len(sender) != 1:
            raise Permanent("option from is not exactly one address")
        return build_mail(
            job.key,
            People(sender=sender[0], to=to, cc=cc, bcc=bcc, reply_to=reply_to),
            subject=options.subject,
            text=options.text or "",
            html=options.html or "",
            headers=options.headers,
        )

    def _write(self, job: Job, mail: Mail) -> str:
        assert isinstance(self._place, Folder)  # noqa: S101 - there are two kinds of place
        # The event's time and not today's: a repeat writes over the same file.
        when = re.sub(r"[^0-9TZ.]", "", job.event.at)
        name = f"{when}-{hashlib.sha256(job.key.encode()).hexdigest()[:12]}.eml"
        try:
            return f"wrote {write_mail(self._place.path, name, mail.content)}"
        except OSError as error:
            raise RetryLater(f"cannot write into {self._place.path}: {error.strerror}") from None
