"""The email kind against a real SMTP server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from tests.servers.certificate import Certificate, make_certificate
from tests.servers.mail import MailServer, free_port
from tiercast.actions import Action, Halt, Job, Permanent, RetryLater, Unknown
from tiercast.runner import perform_many
from tiercast.samples import sample_event
from tiercast.testing import make_action, make_job
from worker.actions.email import Email

BASE = {"from": "Tea house <hello@tea.example>", "to": "ines@example.com", "subject": "Hello", "text": "Hi\n.\n..x\n"}

Outcome = str | Exception | None


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@contextmanager
def mailer(server: MailServer | str, *, timeout: float = 5.0, **options: Any) -> Iterator[Action]:
    url = server if isinstance(server, str) else server.url
    with closing(make_action(Email, BASE | {"server": url} | options, timeout=timeout)) as action:
        yield action


def together(action: Action, jobs: list[Job]) -> list[Outcome]:
    outcomes = {job.key: outcome for job, outcome in perform_many(action, jobs)}
    return [outcomes[job.key] for job in jobs]


def test_a_mail_arrives_as_it_was_written(server: MailServer) -> None:
    with mailer(server, bcc="hidden@example.com") as action:
        told = action.perform(make_job(action))
    (mail,) = server.mails
    assert mail.mail_from == "hello@tea.example"
    assert mail.rcpt_tos == ["ines@example.com", "hidden@example.com"]
    (message,) = server.messages()
    assert message.get_content().splitlines() == ["Hi", ".", "..x"]
    assert told == "250 2.0.0 OK: queued as 4F2A"


def test_many_mails_take_one_session(server: MailServer) -> None:
    with mailer(server) as action:
        outcomes = together(action, [make_job(action) for _ in range(20)])
        action.perform(make_job(action))
    assert all(isinstance(outcome, str) for outcome in outcomes)
    assert len(server.mails) == 21
    assert server.sessions <= 2  # one of ours, and one with which aiosmtpd's controller tries itself


def test_one_refused_mail_hurts_no_neighbour(server: MailServer) -> None:
    # Given a server that refuses the second mail for good and the third for now
    server.rcpt.extend(["", "550 5.1.1 no mailbox <ines@example.com>", "451 4.7.1 greylisted"])
    # When four are sent together
    with mailer(server) as action:
        outcomes = together(action, [make_job(action) for _ in range(4)])
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
        action.perform(make_job(action))
    assert not server.mails


@pytest.mark.parametrize(
    ("command", "answer", "error"),
    [
        ("mail", "451 try later", RetryLater),
        ("mail", "553 sender refused", Permanent),
        ("mail", "530 5.7.0 authentication required", Halt),
        ("data", "452 disk full", RetryLater),
        ("data", "554 looks like spam", Permanent),
        ("data", "421 going down", RetryLater),
    ],
)
def test_what_answers_mean(server: MailServer, command: str, answer: str, error: type[Exception]) -> None:
    getattr(server, command).append(answer)
    with mailer(server) as action:
        with pytest.raises(error):
            action.perform(make_job(action))
        # And the next one goes through.
        action.perform(make_job(action))
    assert len(server.mails) == 1


def test_a_server_that_refuses_for_a_while_gets_the_mail_once() -> None:
    # Given a server that is not there
    port = free_port()
    with mailer(f"smtp://127.0.0.1:{port}") as action:
        job = make_job(action)
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


def test_without_a_server_a_whole_batch_waits_after_one_try() -> None:
    with mailer(f"smtp://127.0.0.1:{free_port()}") as action, pytest.raises(RetryLater):
        together(action, [make_job(action) for _ in range(20)])


def test_a_connection_lost_after_the_mail_is_unknown_for_it_alone(server: MailServer) -> None:
    server.data.extend(["", "close"])
    with mailer(server) as action:
        outcomes = together(action, [make_job(action) for _ in range(4)])
    assert [type(outcome) for outcome in outcomes] == [str, Unknown, str, str]


def test_a_connection_lost_before_the_mail_means_that_nothing_happened(server: MailServer) -> None:
    server.rcpt.extend(["close"])
    with mailer(server) as action, pytest.raises(RetryLater, match="before the mail was sent"):
        action.perform(make_job(action))


def test_an_idle_session_that_the_server_closed_is_replaced_unnoticed(server: MailServer) -> None:
    # Given a session that was used before
    with mailer(server) as action:
        action.perform(make_job(action))
        # When the server gives it up: with a word, and without one
        server.mail.append("421 4.4.2 idle too long")
        action.perform(make_job(action))
        server.mail.append("close")
        action.perform(make_job(action))
    # Then every mail went out at the first attempt
    assert len(server.mails) == 3


def test_several_threads_send_at_once(server: MailServer) -> None:
    with mailer(server) as action, ThreadPoolExecutor(6) as pool:
        batches = [[make_job(action) for _ in range(5)] for _ in range(6)]
        outcomes = [outcome for batch in pool.map(lambda jobs: together(action, jobs), batches) for outcome in batch]
    assert all(isinstance(outcome, str) for outcome in outcomes)
    ids = {message["Message-ID"] for message in server.messages()}
    assert len(server.mails) == len(ids) == 30


def test_logging_in() -> None:
    with (
        MailServer(logins={"ines": "s3cr3t-pass"}) as server,
        mailer(server, username="ines", password="s3cr3t-pass") as action,
    ):
        action.perform(make_job(action))
        assert len(server.mails) == 1


def test_a_refused_password_stops_the_lane_and_is_not_shown() -> None:
    with (
        MailServer(logins={"ines": "right"}) as server,
        mailer(server, username="ines", password="s3cr3t-pass") as action,
        pytest.raises(Halt, match="refused the session: 535") as raised,
    ):
        together(action, [make_job(action), make_job(action)])
    assert "s3cr3t" not in str(raised.value)


def test_starttls(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with MailServer(tls=certificate.context()) as server:
        with mailer(server, tls="starttls") as action:
            action.perform(make_job(action))
        assert len(server.mails) == 1


def test_tls_from_the_first_byte(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with MailServer(implicit_tls=certificate.context()) as server:
        with mailer(f"smtps://localhost:{server.port}") as action:
            action.perform(make_job(action))
        assert len(server.mails) == 1


def test_a_certificate_that_nobody_vouches_for_stops_the_lane(certificate: Certificate) -> None:
    with MailServer(tls=certificate.context()) as server:
        with mailer(server, tls="starttls") as action, pytest.raises(Halt, match="certificate of 127"):
            action.perform(make_job(action))
        assert not server.mails


def test_a_server_without_starttls_gets_nothing(server: MailServer) -> None:
    with mailer(server, tls="starttls") as action, pytest.raises(Halt, match="does not offer"):
        action.perform(make_job(action))
    assert not server.mails


def test_addresses_beyond_ascii_where_the_server_takes_them(server: MailServer) -> None:
    with mailer(server) as action:
        action.perform(make_job(action, to="Jörg <jörg@example.com>"))
    (mail,) = server.mails
    assert mail.rcpt_tos == ["jörg@example.com"]
    assert "SMTPUTF8" in mail.mail_options


def test_addresses_beyond_ascii_where_it_does_not() -> None:
    with MailServer(smtputf8=False) as server:
        with mailer(server) as action:
            outcomes = together(action, [make_job(action, to="jörg@example.com"), make_job(action)])
        assert [type(outcome) for outcome in outcomes] == [Permanent, str]
        assert "jörg" not in str(outcomes[0])


def test_names_of_the_customer_in_an_answer_are_not_kept(server: MailServer) -> None:
    server.data.append("554 rejected: Quartermaine is not welcome, nor ines@example.com")
    with mailer(server) as action, pytest.raises(Permanent) as raised:
        action.perform(make_job(action, sample_event(name="Zoe Quartermaine")))
    assert "Quartermaine" not in str(raised.value)
    assert "ines@" not in str(raised.value)


@contextmanager
def scripted(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that speaks one session as `talk` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(5)
            with suppress(OSError):
                talk(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"smtp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join()


def _until_closed(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with (
        scripted(_until_closed) as url,
        mailer(url, timeout=0.6) as action,
        pytest.raises(RetryLater, match="timed out"),
    ):
        action.perform(make_job(action))


def test_a_server_that_does_not_want_us_stops_the_lane() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"554 no mail service for you\r\n")
        _until_closed(connection)

    with scripted(refuse) as url, mailer(url) as action, pytest.raises(Halt, match="554 no mail service"):
        action.perform(make_job(action))


def test_a_busy_server_is_tried_again() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"421 too many sessions\r\n")
        _until_closed(connection)

    with scripted(refuse) as url, mailer(url) as action, pytest.raises(RetryLater, match="421 too many sessions"):
        action.perform(make_job(action))


def test_no_answer_to_the_mail_in_time_is_unknown() -> None:
    def swallow(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        for answer in (b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
            connection.recv(4096)
            connection.sendall(answer)
        _until_closed(connection)

    with scripted(swallow) as url, mailer(url, timeout=0.8) as action, pytest.raises(Unknown, match="did not answer"):
        action.perform(make_job(action))
