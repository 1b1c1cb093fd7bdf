"""The email kind against a real SMTP server."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.servers.certificate import Certificate, make_certificate
from tests.servers.mail import MailServer, free_port
from tiercast.actions import Action, Halt, Job, Permanent, RetryLater, Unavailable, Unknown
from tiercast.runner import ActionRunner, Answer, perform
from tiercast.samples import sample_event
from tiercast.testing import make_action, make_job
from worker.actions.email import Email
from worker.actions.mail import sessions

BASE = {"from": "Tea house <hello@tea.example>", "to": "ines@example.com", "subject": "Hello", "text": "Hi\n.\n..x\n"}


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@contextmanager
def mailer(server: MailServer | str, *, timeout: float = 5.0, **options: Any) -> Iterator[ActionRunner]:
    url = server if isinstance(server, str) else server.url
    with ActionRunner(make_action(Email, BASE | {"server": url} | options, timeout=timeout)) as action:
        yield action


def together(action: ActionRunner, jobs: list[Job]) -> list[Answer]:
    return action.perform_at_once(jobs)


def test_a_mail_arrives_as_it_was_written(server: MailServer) -> None:
    with mailer(server, bcc="hidden@example.com") as action:
        told = action.perform(make_job(action.action))
    (mail,) = server.mails
    assert mail.mail_from == "hello@tea.example"
    assert mail.rcpt_tos == ["ines@example.com", "hidden@example.com"]
    (message,) = server.messages()
    assert message.get_content().splitlines() == ["Hi", ".", "..x"]
    assert told == "250 2.0.0 OK: queued as 4F2A"


def test_many_mails_take_few_connections(server: MailServer) -> None:
    with mailer(server, connections=3) as action:
        outcomes = together(action, [make_job(action.action) for _ in range(20)])
        action.perform(make_job(action.action))
    assert all(isinstance(outcome, str) for outcome in outcomes)
    assert len(server.mails) == 21
    assert server.sessions <= 4  # three of ours, and one with which aiosmtpd's controller tries itself


def test_one_refused_mail_hurts_no_neighbour(server: MailServer) -> None:
    # Given a server that refuses the second mail for good and the third for now
    server.rcpt.extend(["", "550 5.1.1 no mailbox <ines@example.com>", "451 4.7.1 greylisted"])
    # When four are sent together
    with mailer(server, connections=1) as action:
        outcomes = together(action, [make_job(action.action) for _ in range(4)])
    # Then each has its own outcome, over one session
    assert [type(outcome) for outcome in outcomes] == [str, Permanent, RetryLater, str]
    assert str(outcomes[1]) == "127.0.0.1 refused recipient 1 of 1: 550 5.1.1 no mailbox <[email]>"
    assert len(server.mails) == 2
    assert server.sessions <= 2


def test_a_mail_goes_to_all_its_recipients_or_to_none(server: MailServer) -> None:
    server.rcpt.extend(["", "550 no such user", "451 later"])
    with (
        mailer(server, to="a@example.com, b@example.com, c@example.com") as action,
        pytest.raises(Permanent, match="recipient 2 of 3"),
    ):
        action.perform(make_job(action.action))
    assert not server.mails


@pytest.mark.parametrize(
    ("command", "answer", "error"),
    [
        ("mail", "451 try later", Unavailable),
        ("mail", "530 5.7.0 authentication required", Halt),
        ("mail", "552 5.3.4 too large", Permanent),
        ("rcpt", "421 4.3.2 going down", Unavailable),
        ("rcpt", "450 4.2.1 mailbox busy", RetryLater),
        ("rcpt", "550 5.1.1 no such user", Permanent),
        ("rcpt", "550 5.2.1 disabled", Permanent),
        ("rcpt", "552 5.2.2 mailbox full", Permanent),
        ("rcpt", "550 5.7.8 log in first", Halt),
        ("data", "452 disk full", RetryLater),
        ("data", "554 looks like spam", Permanent),
        ("data", "421 going down", Unavailable),
    ],
)
def test_what_answers_mean(server: MailServer, command: str, answer: str, error: type[Exception]) -> None:
    getattr(server, command).append(answer)
    with mailer(server) as action:
        with pytest.raises(error) as raised:
            action.perform(make_job(action.action))
        assert type(raised.value) is error
        # And the next one goes through.
        action.perform(make_job(action.action))
    assert len(server.mails) == 1


def test_a_server_that_refuses_for_a_while_gets_the_mail_once() -> None:
    # Given a server that is not there
    port = free_port()
    with mailer(f"smtp://127.0.0.1:{port}") as action:
        job = make_job(action.action)
        with pytest.raises(RetryLater, match="no mail session with"):
            action.perform(job)
        # And then is, and says "later" twice
        with MailServer(port=port) as server:
            server.data.extend(["450 busy", "450 busy"])
            for _ in range(2):
                with pytest.raises(RetryLater):
                    action.perform(job)
            # When it accepts
            action.perform(job)
            # Then it has the mail once
            assert len(server.mails) == 1


def test_without_a_server_the_cause_is_that_it_is_away() -> None:
    with mailer(f"smtp://127.0.0.1:{free_port()}") as action:
        outcomes = together(action, [make_job(action.action) for _ in range(20)])
    assert {type(outcome) for outcome in outcomes} == {Unavailable}


def test_a_name_that_nobody_knows_means_that_nothing_happened() -> None:
    with (
        mailer("smtp://mail.invalid", tls="none", timeout=4) as action,
        pytest.raises(Unavailable, match=r"mail\.invalid"),
    ):
        action.perform(make_job(action.action))


def test_a_connection_lost_after_the_mail_is_unknown_for_it_alone(server: MailServer) -> None:
    server.data.extend(["", "close"])
    with mailer(server, connections=1) as action:
        outcomes = together(action, [make_job(action.action) for _ in range(4)])
    assert [type(outcome) for outcome in outcomes] == [str, Unknown, str, str]


def test_a_connection_lost_before_the_mail_means_that_nothing_happened(server: MailServer) -> None:
    server.rcpt.extend(["close"])
    with mailer(server) as action, pytest.raises(RetryLater, match="before the mail was sent"):
        action.perform(make_job(action.action))


def test_an_idle_session_that_the_server_closed_is_replaced_unnoticed(server: MailServer) -> None:
    # Given a session that was used before
    with mailer(server) as action:
        action.perform(make_job(action.action))
        # When the server gives it up: with a word, and without one
        server.mail.append("421 4.4.2 idle too long")
        action.perform(make_job(action.action))
        server.mail.append("close")
        action.perform(make_job(action.action))
    # Then every mail went out at the first attempt
    assert len(server.mails) == 3


def test_many_at_once_share_the_connections(server: MailServer) -> None:
    with mailer(server, connections=6) as action:
        outcomes = together(action, [make_job(action.action) for _ in range(60)])
    assert all(isinstance(outcome, str) for outcome in outcomes)
    ids = {message["Message-ID"] for message in server.messages()}
    assert len(server.mails) == len(ids) == 60
    assert server.sessions <= 7


def test_logging_in() -> None:
    with (
        MailServer(logins={"ines": "s3cr3t-pass"}) as server,
        mailer(server, username="ines", password="s3cr3t-pass") as action,
    ):
        action.perform(make_job(action.action))
        assert len(server.mails) == 1


def test_a_refused_password_stops_the_lane_and_is_not_shown() -> None:
    with (
        MailServer(logins={"ines": "right"}) as server,
        mailer(server, username="ines", password="s3cr3t-pass") as action,
        pytest.raises(Halt, match="refused the credential: 535") as raised,
    ):
        action.perform(make_job(action.action))
    assert raised.value.cause == "credential"
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize("method", ["PLAIN", "LOGIN"])
def test_a_password_beyond_ascii(method: str) -> None:
    with MailServer(logins={"wörk": "pässwort-🔑"}, methods={method}) as server:
        with mailer(server, username="wörk", password="pässwort-🔑") as action:
            action.perform(make_job(action.action))
        assert len(server.mails) == 1


def test_starttls(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with MailServer(tls=certificate.context()) as server:
        with mailer(server, tls="starttls") as action:
            action.perform(make_job(action.action))
        assert len(server.mails) == 1


def test_tls_from_the_first_byte(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with MailServer(implicit_tls=certificate.context()) as server:
        with mailer(f"smtps://localhost:{server.port}") as action:
            action.perform(make_job(action.action))
        assert len(server.mails) == 1


def test_a_certificate_that_nobody_vouches_for_gets_no_mail(certificate: Certificate) -> None:
    with MailServer(tls=certificate.context()) as server:
        with mailer(server, tls="starttls") as action, pytest.raises(Unavailable, match="certificate of 127"):
            action.perform(make_job(action.action))
        assert not server.mails


def test_a_server_without_starttls_gets_nothing(server: MailServer) -> None:
    with mailer(server, tls="starttls") as action, pytest.raises(Halt, match="does not offer"):
        action.perform(make_job(action.action))
    assert not server.mails


def test_addresses_beyond_ascii_where_the_server_takes_them(server: MailServer) -> None:
    with mailer(server) as action:
        action.perform(make_job(action.action, to="Jörg <jörg@example.com>"))
    (mail,) = server.mails
    assert mail.rcpt_tos == ["jörg@example.com"]
    assert "SMTPUTF8" in mail.mail_options


def test_addresses_beyond_ascii_where_it_does_not() -> None:
    with MailServer(smtputf8=False) as server:
        with mailer(server) as action:
            outcomes = together(action, [make_job(action.action, to="jörg@example.com"), make_job(action.action)])
        assert [type(outcome) for outcome in outcomes] == [Permanent, str]
        assert "jörg" not in str(outcomes[0])


def test_names_of_the_customer_in_an_answer_are_not_kept(server: MailServer) -> None:
    server.data.append("554 rejected: Quartermaine is not welcome, nor ines@example.com")
    with mailer(server) as action, pytest.raises(Permanent) as raised:
        action.perform(make_job(action.action, sample_event(name="Zoe Quartermaine")))
    assert "Quartermaine" not in str(raised.value)
    assert "ines@" not in str(raised.value)


@contextmanager
def scripted(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server whose every session goes as `talk` says."""
    listener = socket.create_server(("127.0.0.1", 0))
    sessions: list[threading.Thread] = []

    def session(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(5)
            talk(connection)

    def serve() -> None:
        with suppress(OSError):
            while True:
                sessions.append(threading.Thread(target=session, args=(listener.accept()[0],)))
                sessions[-1].start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"smtp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in (thread, *sessions):
            one.join()


def dialogue(*answers: str, greeting: str = "220 hello") -> Callable[[socket.socket], None]:
    """A session that answers the commands with these, in turn, and then says nothing."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(greeting.encode() + b"\r\n")
        for answer in answers:
            connection.recv(65536)
            connection.sendall(answer.replace("\n", "\r\n").encode() + b"\r\n")
        _until_closed(connection)

    return talk


def _until_closed(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with (
        scripted(_until_closed) as url,
        mailer(url, timeout=0.6) as action,
        pytest.raises(RetryLater, match="timed out"),
    ):
        action.perform(make_job(action.action))


def test_a_server_that_does_not_want_us_stops_the_lane() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"554 no mail service for you\r\n")
        _until_closed(connection)

    with scripted(refuse) as url, mailer(url) as action, pytest.raises(Halt, match="554 no mail service"):
        action.perform(make_job(action.action))


def test_a_busy_server_is_tried_again() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"421 too many sessions\r\n")
        _until_closed(connection)

    with scripted(refuse) as url, mailer(url) as action, pytest.raises(RetryLater, match="421 too many sessions"):
        action.perform(make_job(action.action))


def test_no_answer_to_the_mail_in_time_is_unknown() -> None:
    talk = dialogue("250 hello", "250 ok", "250 ok", "354 go on")
    with scripted(talk) as url, mailer(url, timeout=0.8) as action, pytest.raises(Unknown, match="did not answer"):
        action.perform(make_job(action.action))


def drip(greeting: bytes, seconds: float) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        for byte in greeting:
            connection.sendall(bytes([byte]))
            time.sleep(seconds)

    return talk


def test_the_deadline_is_of_the_whole_attempt_and_not_of_a_step() -> None:
    # Given a server that says a byte of its greeting every 0.1 seconds, so that no step takes long
    with scripted(drip(b"220 " + b"x" * 40 + b"\r\n", 0.1)) as url, mailer(url, timeout=1.0) as action:
        began = time.monotonic()
        # When several mails are sent at once
        outcomes = together(action, [make_job(action.action) for _ in range(4)])
        took = time.monotonic() - began
    # Then each has been given up by its time-out, and nothing has happened
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert "waiting for the greeting" in str(outcomes[0])
    assert took < 1.5


def test_a_slow_server_is_given_up_in_whichever_step_it_drips() -> None:
    # Given one that answers each command within the time-out, but not all of them
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        while connection.recv(65536):
            time.sleep(0.4)
            connection.sendall(b"250 ok\r\n")

    with scripted(talk) as url, mailer(url, timeout=1.0) as action, pytest.raises(Unavailable, match="timed out"):
        action.perform(make_job(action.action))


@pytest.mark.parametrize(
    "line", [b"250-x\r\n", b"250-" + b"x" * 2000 + b"\r\n", b"x" * 70], ids=["lines", "long lines", "no line end"]
)
def test_an_answer_without_end_takes_little_memory(line: bytes) -> None:
    # Given a server whose answer to EHLO does not end
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        connection.recv(4096)
        for _ in range(64 * 1024 * 1024 // len(line) // 1000):
            connection.sendall(line * 1000)

    tracemalloc.start()
    try:
        with scripted(talk) as url, mailer(url) as action, pytest.raises(Unavailable, match="answered with"):
            action.perform(make_job(action.action))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Then little of it is kept
    assert peak < 8 * 1024 * 1024


def test_a_server_of_another_protocol() -> None:
    with (
        scripted(dialogue(greeting="HTTP/1.1 400 Bad Request")) as url,
        mailer(url) as action,
        pytest.raises(Unavailable, match="does not speak SMTP"),
    ):
        action.perform(make_job(action.action))


def test_nothing_slipped_in_before_encryption_is_believed(certificate: Certificate) -> None:
    # Given somebody on the way who adds an answer of their own behind the one to STARTTLS
    talk = dialogue("250-hello\n250 STARTTLS", "220 go\n250 hello")
    with (
        scripted(talk) as url,
        mailer(url, tls="starttls") as action,
        pytest.raises(Unavailable, match=r"unasked|between STARTTLS and encryption"),
    ):
        action.perform(make_job(action.action))


def test_a_relay_that_wants_a_name() -> None:
    heard: list[str] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        heard.append(connection.recv(4096).decode().strip())
        if heard[-1] != "EHLO shop.example":
            connection.sendall(b"421 4.7.0 not with this name\r\n")
            return
        for answer in (b"250 hello", b"250 ok", b"250 ok", b"354 go", b"250 queued"):
            connection.sendall(answer + b"\r\n")
            connection.recv(65536)

    with scripted(talk) as url:
        # Given no name, its words and the option are shown
        with mailer(url) as action, pytest.raises(Unavailable) as raised:
            action.perform(make_job(action.action))
        assert "421 4.7.0 not with this name" in str(raised.value)
        assert "EHLO" in str(raised.value)
        assert "set ehlo" in str(raised.value)
        # And with the name, the mail goes out
        with mailer(url, ehlo="shop.example") as action:
            assert action.perform(make_job(action.action)) == "250 queued"


def test_a_refused_name_stops_the_lane_as_a_setting() -> None:
    talk = dialogue("550 5.7.1 HELO argument is invalid")
    with scripted(talk) as url, mailer(url) as action, pytest.raises(Halt, match="set ehlo") as raised:
        action.perform(make_job(action.action))
    assert raised.value.cause == "setting"


def test_a_server_without_ehlo() -> None:
    talk = dialogue("502 what?", "250 hello", "250 ok", "250 ok", "354 go", "250 queued")
    with scripted(talk) as url, mailer(url) as action:
        assert action.perform(make_job(action.action)) == "250 queued"


def test_a_refused_sender_stops_the_lane(server: MailServer) -> None:
    server.mail.append("553 5.1.8 sender not verified")
    with mailer(server) as action, pytest.raises(Halt, match="check the option from") as raised:
        action.perform(make_job(action.action))
    assert raised.value.cause == "setting"


def test_a_refused_sender_of_one_event_is_that_jobs_own(server: MailServer) -> None:
    server.mail.append("553 5.1.8 sender not verified")
    options: dict[str, Any] = {"from": "{{ event.customer.metadata.shop }}"}
    with mailer(server, **options) as action, pytest.raises(Permanent):
        action.perform(make_job(action.action, sender="shop@tea.example"))


def test_a_policy_that_refuses_every_mail_stops_the_lane_and_kills_none(server: MailServer) -> None:
    server.data.extend(["550 5.7.26 unauthenticated"] * 4)
    with mailer(server, connections=1) as action:
        outcomes = together(action, [make_job(action.action) for _ in range(4)])
    assert [type(outcome) for outcome in outcomes] == [RetryLater, RetryLater, Halt, Halt]
    assert "SPF" in str(outcomes[3])


def test_a_policy_that_refuses_one_mail_is_that_jobs_own(server: MailServer) -> None:
    server.data.extend(["", "550 5.7.1 no"])
    with mailer(server, connections=1) as action:
        outcomes = together(action, [make_job(action.action) for _ in range(3)])
    assert [type(outcome) for outcome in outcomes] == [str, Permanent, str]


def test_a_malformed_address_is_that_jobs_own(server: MailServer) -> None:
    with mailer(server) as action:
        jobs = [make_job(action.action), make_job(action.action, to="Doe, . Jane <x@y.z>"), make_job(action.action)]
        outcomes = together(action, jobs)
    assert [type(outcome) for outcome in outcomes] == [str, Permanent, str]


def test_one_slow_mail_holds_up_no_other() -> None:
    # Given a server that never answers to one mail
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        slow = False
        while said := connection.recv(65536):
            slow = slow or b"slow@" in said
            if said.startswith(b"DATA") and not slow:
                connection.sendall(b"354 go\r\n")
            elif not said.startswith(b"DATA"):
                connection.sendall(b"250 ok\r\n")

    with scripted(talk) as url, mailer(url, timeout=1.5, connections=3) as action:
        jobs = [make_job(action.action, to="slow@example.com"), *(make_job(action.action) for _ in range(8))]
        outcomes = together(action, jobs)
    # Then it alone times out
    assert isinstance(outcomes[0], Unavailable)
    assert all(isinstance(outcome, str) for outcome in outcomes[1:])


def test_a_server_that_takes_few_connections_gets_no_more() -> None:
    # Given a server that takes two connections at once
    lock, now = threading.Lock(), 0

    def talk(connection: socket.socket) -> None:
        nonlocal now
        with lock:
            now += 1
            full = now > 2
        try:
            if full:
                connection.sendall(b"421 4.7.0 too many connections\r\n")
                return
            connection.sendall(b"220 hello\r\n")
            while said := connection.recv(65536):
                connection.sendall(b"354 go\r\n" if said.startswith(b"DATA") else b"250 ok\r\n")
        finally:
            with lock:
                now -= 1

    with scripted(talk) as url, mailer(url, connections=10) as action:
        # When many mails are sent at once, over up to ten
        outcomes = together(action, [make_job(action.action) for _ in range(30)])
    # Then all go out over those that it takes
    assert {type(outcome) for outcome in outcomes} == {str}


def test_mails_that_wait_too_long_for_a_connection_count_no_attempt() -> None:
    # Given a server that never answers, a mail that has the only connection, and others with less time than it
    with scripted(dialogue("250 hello")) as url, mailer(url, timeout=2.0, connections=1) as action:
        waiting = [replace(make_job(action.action), timeout=0.5) for _ in range(3)]
        outcomes = together(action, [make_job(action.action), *waiting])
    # Then these could not even begin
    assert isinstance(outcomes[0], Unavailable)
    assert all(type(outcome) is RetryLater and outcome.everyone for outcome in outcomes[1:])


def test_commands_go_out_together_where_the_server_allows_it() -> None:
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        connection.recv(4096)
        connection.sendall(b"250-hello\r\n250 PIPELINING\r\n")
        heard.append(connection.recv(4096))
        connection.sendall(b"250 ok\r\n250 ok\r\n250 ok\r\n")
        connection.recv(4096)
        connection.sendall(b"354 go\r\n")
        connection.recv(65536)
        connection.sendall(b"250 queued\r\n")

    with scripted(talk) as url, mailer(url, bcc="b@example.com") as action:
        assert action.perform(make_job(action.action)) == "250 queued"
    assert heard[0].split(b"\r\n")[:3] == [
        b"MAIL FROM:<hello@tea.example>",
        b"RCPT TO:<ines@example.com>",
        b"RCPT TO:<b@example.com>",
    ]


def test_a_mail_that_is_too_large_for_the_server_is_not_sent() -> None:
    talk = dialogue("250-hello\n250 SIZE 100")
    with scripted(talk) as url, mailer(url) as action, pytest.raises(Permanent, match="takes at most 100"):
        action.perform(make_job(action.action))


def test_a_local_part_of_the_recipient_in_an_answer_is_not_kept(server: MailServer) -> None:
    server.rcpt.append("550 5.1.1 user quartermaine unknown")
    with mailer(server) as action, pytest.raises(Permanent) as raised:
        action.perform(make_job(action.action, to="quartermaine@example.com"))
    assert "quartermaine" not in str(raised.value)


def test_a_cancelled_mail_leaves_no_connection_behind() -> None:
    closed = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        with suppress(ConnectionError):
            _until_closed(connection)
        closed.set()

    async def cancel(action: Email) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await action.perform(make_job(action))
        assert await asyncio.to_thread(closed.wait, 3)

    with scripted(talk) as url:
        asyncio.run(cancel(Email("mail", Email.Options().load(BASE | {"server": url}), timeout=5)))


def test_a_silent_resolver_costs_one_thread_and_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a resolver that says nothing
    over, asked = threading.Event(), []

    def silent(*question: object, **more: object) -> list[object]:
        asked.append(question)
        over.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    try:
        with mailer("smtp://mail.shop.example", timeout=0.6) as action:
            # When many mails are sent, twice
            began = time.monotonic()
            outcomes = [
                outcome for _ in range(2) for outcome in together(action, [make_job(action.action) for _ in range(30)])
            ]
            took = time.monotonic() - began
    finally:
        over.set()
    # Then all are given up in time, nothing has happened, and one question is open
    assert {type(outcome) for outcome in outcomes} <= {Unavailable, RetryLater}
    assert Unavailable in {type(outcome) for outcome in outcomes}
    assert took < 3
    assert len(asked) == 1


def test_idle_connections_are_closed(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "IDLE_SECONDS", 0.2)

    async def send_and_wait(action: Action) -> None:
        first, second = make_job(action), make_job(action)
        await action.perform(first)  # type: ignore[misc]
        before = server.sessions
        await asyncio.sleep(0.6)
        await action.perform(second)  # type: ignore[misc]
        assert server.sessions == before + 1

    asyncio.run(send_and_wait(make_action(Email, BASE | {"server": server.url})))
    assert len(server.mails) == 2


def test_an_event_loop_that_ends_leaves_no_connection_behind(server: MailServer) -> None:
    # Given an action that is performed on several loops, as tests and the command line do
    action = make_action(Email, BASE | {"server": server.url})
    for _ in range(3):
        perform(action, make_job(action))
    # Then each mail went out, over a connection of that loop
    assert len(server.mails) == 3
    assert server.sessions == 4
    action.close()
    action.close()
