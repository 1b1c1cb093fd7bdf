"""Kind `email`: send a mail by SMTP, or write it into a folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
from collections.abc import Mapping
from typing import Any

from marshmallow import fields, validate

from tiercast.actions import Action, FileText, Halt, Job, Permanent, Secret, Skip, Unavailable
from tiercast.config.templates import is_template
from tiercast.outbound import personal_values

from .mail.addresses import Mailbox, count_written, read_addresses
from .mail.answers import PolicyRefused, SenderRefused
from .mail.folder import write_mail
from .mail.message import Mail, People, build_mail, check_headers
from .mail.place import Folder, Server, read_place
from .mail.policy import PolicyWatch
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
        ehlo = fields.String(
            load_default=None,
            allow_none=True,
            metadata={"description": "the name that EHLO gives this machine; by default its own, or its address"},
        )
        connections = fields.Integer(
            load_default=20,
            strict=True,
            validate=validate.Range(1, 1000),
            metadata={"description": "the most connections to the server at once, in each worker process"},
        )
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
        text = FileText(load_default="", metadata={"description": "the plain text, or file:PATH"})
        html = FileText(load_default="", metadata={"description": "the same as HTML, or file:PATH"})
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
            ehlo=self.options.ehlo,
        )
        self.outside = isinstance(self._place, Server)
        self._sessions = Sessions(self._place, self.options.connections) if isinstance(self._place, Server) else None
        self._policy = PolicyWatch()
        self._fixed_sender = not is_template(self.options.sender)
        self._written = {option: count_written(self.options.get(option) or "") for option in _ADDRESS_OPTIONS}
        self._check_fixed_addresses()

    async def perform(self, job: Job) -> str | None:
        mail = self._build(job)
        if self._sessions is None:
            return await asyncio.to_thread(self._write, job, mail)
        personal = (*personal_values(job.event), *mail.recipients, *(one.partition("@")[0] for one in mail.recipients))
        # A little less than the worker gives, so that the answer says how far the attempt has come.
        seconds = job.timeout - min(0.25, job.timeout / 20)
        try:
            words = await self._sessions.deliver(mail, seconds, personal=personal)
        except SenderRefused as refused:
            if self._fixed_sender:
                raise Halt(f"{refused} (check the option from)", cause="setting") from None
            raise Permanent(str(refused)) from None
        except PolicyRefused as refused:
            raise self._policy.refused(job.key, refused.reason, str(refused)) from None
        self._policy.accepted()
        return words

    def rehearse(self, job: Job) -> None:
        self._build(job)

    def servers(self) -> list[tuple[str, int]]:
        return [(self._place.host, self._place.port)] if isinstance(self._place, Server) else []

    def close(self) -> None:
        if self._sessions is not None:
            self._sessions.close()

    def _build(self, job: Job) -> Mail:
        options = job.options
        sender, to, cc, bcc, reply_to = (
            self._addresses(option, options.get(option) or "") for option in _ADDRESS_OPTIONS
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

    def _addresses(self, option: str, text: str) -> tuple[Mailbox, ...]:
        return read_addresses("from" if option == "sender" else option, text, most=self._written[option])

    def _check_fixed_addresses(self) -> None:
        for option in _ADDRESS_OPTIONS:
            text = self.options.get(option) or ""
            if is_template(text):
                continue
            try:
                found = self._addresses(option, text)
            except Permanent as fault:
                name, told = ("from" if option == "sender" else option), str(fault)
                raise ValueError(f"{name}: {told.removeprefix(f'option {name} ')}") from None
            if option == "sender" and len(found) != 1:
                raise ValueError(f"from: is not exactly one address; name one there, or in {FROM_VARIABLE}")

    def _write(self, job: Job, mail: Mail) -> str:
        assert isinstance(self._place, Folder)  # noqa: S101 - there are two kinds of place
        # The event's time and not today's: a repeat writes over the same file.
        when = re.sub(r"[^0-9TZ.]", "", job.event.at)
        name = f"{when}-{hashlib.sha256(job.key.encode()).hexdigest()[:12]}.eml"
        try:
            return f"wrote {write_mail(self._place.path, name, mail.content)}"
        except OSError as error:
            # A full disk or a missing right holds for every mail.
            raise Unavailable(f"cannot write into {self._place.path}: {error.strerror}") from None
