"""The email kind without a server: where mail goes, addresses, and the message itself."""

from __future__ import annotations

import email.policy
import stat
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import marshmallow
import pytest

from tiercast.actions import Action, Job, Permanent, RetryLater, Skip
from tiercast.runner import ActionRunner, perform
from tiercast.samples import sample_event
from tiercast.testing import make_action, make_job
from worker.actions.email import Email
from worker.actions.mail.addresses import count_written
from worker.actions.mail.place import Folder, Server, read_place

BASE = {"from": "Tea house <hello@tea.example>", "to": "ines@example.com", "subject": "Hello", "text": "Hi"}


def mailer(directory: Path, **options: Any) -> Action:
    return make_action(Email, BASE | {"server": f"file:{directory}"} | options)


def sent(directory: Path) -> list[EmailMessage]:
    files = sorted(directory.iterdir())
    return [message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]


def write(directory: Path, configured: dict[str, Any] | None = None, **rendered: Any) -> EmailMessage:
    action = mailer(directory, **(configured or {}))
    perform(action, make_job(action, **rendered))
    (message,) = sent(directory)
    return message


@pytest.mark.parametrize(
    ("text", "options", "place"),
    [
        ("smtp://mail.example", {}, Server(host="mail.example", port=587, tls="starttls")),
        ("smtp://mail.example:2525", {}, Server(host="mail.example", port=2525, tls="starttls")),
        ("smtps://mail.example", {}, Server(host="mail.example", port=465, tls="tls")),
        ("smtp://mail.example", {"tls": "tls"}, Server(host="mail.example", port=465, tls="tls")),
        ("smtp://mailpit:1025", {"tls": "none"}, Server(host="mailpit", port=1025, tls="none")),
        ("smtp://localhost", {}, Server(host="localhost", port=25, tls="none")),
        ("smtp://[::1]:2525", {}, Server(host="::1", port=2525, tls="none")),
        ("smtp://127.0.0.1", {"tls": "starttls"}, Server(host="127.0.0.1", port=587, tls="starttls")),
        (
            "smtp://ines%40tea.example@mail.example",
            {"password": "p"},
            Server(host="mail.example", port=587, tls="starttls", username="ines@tea.example", password="p"),
        ),
        ("file:mails", {}, Folder(path=Path("mails"))),
        ("file:///var/mails", {}, Folder(path=Path("/var/mails"))),
    ],
)
def test_where_mail_goes(text: str, options: dict[str, Any], place: Server | Folder) -> None:
    assert read_place(text, **options) == place


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("mail.example", {}, "server: is no mail server; expected smtp://"),
        ("http://mail.example", {}, "server: is no mail server"),
        ("smtp://", {}, "server: is no mail server"),
        ("smtp://mail.example:many", {}, "server: has no usable port"),
        ("smtp://mail.example/inbox", {}, "server: has something after the host"),
        ("smtp://{{ event.id }}.example", {}, "server: cannot be a template"),
        ("file:", {}, "server: names no directory"),
        ("file://mails", {}, "server: file:// is followed by an absolute path"),
        ("smtp://u:p@mail.example", {}, "server: holds a password"),
        ("smtp://u@mail.example", {}, "username and password: give both or none"),
        ("smtp://mail.example", {"password": "p"}, "username and password: give both or none"),
        ("smtps://mail.example", {"tls": "none"}, "tls: is"),
        ("smtp://mail.example", {"tls": "none", "username": "u", "password": "p"}, "password in clear text"),
    ],
)
def test_mistakes_about_the_server_are_told_at_the_start(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        make_action(Email, BASE | {"server": text} | options)
    assert "u:p" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "", "html": ""}, "text: give text, html or both"),
        ({"headers": {"X Y": "1"}}, "headers: 'X Y' is no name of a header"),
        ({"headers": {"bcc": "eve@example.com"}}, "headers: bcc is set by"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers: Content-Type is set by"),
    ],
)
def test_other_mistakes_are_told_at_the_start(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_action(Email, BASE | {"server": "file:x"} | options)


def test_a_server_and_a_sender_for_all_actions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given neither in the action
    monkeypatch.setenv("TIERCAST_EMAIL_SERVER", f"file:{tmp_path / 'all'}")
    monkeypatch.setenv("TIERCAST_EMAIL_FROM", "all@tea.example")
    action = make_action(Email, {"to": "ines@example.com", "subject": "s", "text": "t"})
    # When it sends
    perform(action, make_job(action))
    # Then both come from the environment
    assert sent(tmp_path / "all")[0]["From"] == "all@tea.example"


def test_without_either_it_is_the_mail_server_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIERCAST_EMAIL_SERVER", raising=False)
    monkeypatch.delenv("TIERCAST_EMAIL_FROM", raising=False)
    options = Email.Options().load({"to": "ines@example.com", "subject": "s", "text": "t"})
    assert options["server"] == "smtp://localhost"
    assert options["sender"].startswith("tiercast@")


def test_whether_the_effect_leaves_the_machine(tmp_path: Path) -> None:
    assert mailer(tmp_path).outside is False
    assert make_action(Email, BASE | {"server": "smtp://localhost"}).outside is True


def test_tls_takes_three_words() -> None:
    with pytest.raises(marshmallow.ValidationError):
        make_action(Email, BASE | {"tls": "ssl"})


def test_text_and_html(tmp_path: Path) -> None:
    message = write(tmp_path, {"html": "x"}, text="Grüße\n.dot\n", html="<p>Grüße</p>")
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert text.get_content().replace("\r\n", "\n") == "Grüße\n.dot\n"
    assert html.get_content_type() == "text/html"
    assert "Grüße" in html.get_content()


def test_html_alone(tmp_path: Path) -> None:
    message = write(tmp_path, {"html": "x"}, text=" ", html="<p>Hi</p>")
    assert message.get_content_type() == "text/html"


def test_all_of_it_is_ascii_with_network_line_ends(tmp_path: Path) -> None:
    write(tmp_path, subject="Grüße aus der Teestube " * 8, text="Grüße " * 300, html="<p>日本</p>")
    content = next(tmp_path.iterdir()).read_bytes()
    assert content.isascii()
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(map(len, content.split(b"\r\n"))) <= 998


def test_headers(tmp_path: Path) -> None:
    message = write(
        tmp_path,
        {
            "cc": "a@example.com",
            "bcc": "hidden@example.com",
            "reply_to": "Help <help@tea.example>",
            "headers": {"List-Unsubscribe": "<https://tea.example/u>"},
        },
        subject="  Grüße 🎉  ",
    )
    assert message["From"] == "Tea house <hello@tea.example>"
    assert message["To"] == "ines@example.com"
    assert message["Cc"] == "a@example.com"
    assert message["Reply-To"] == "Help <help@tea.example>"
    assert message["Subject"] == "Grüße 🎉"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Unsubscribe"] == "<https://tea.example/u>"
    assert message["Date"].datetime.tzinfo is not None
    assert message["Bcc"] is None
    assert b"hidden" not in message.as_bytes()


def test_the_message_id_is_made_from_the_key(tmp_path: Path) -> None:
    # Given two attempts of a job, and another job
    ids = []
    for directory, key in (("a", "s:e1:mail"), ("b", "s:e1:mail"), ("c", "s:e2:mail")):
        message = write(tmp_path / directory, key=key)
        ids.append(message["Message-ID"])
    # Then the attempts share an id
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("<")
    assert ids[0].endswith("@tea.example>")
    assert "s:e1" not in ids[0]


def test_a_long_domain_keeps_the_message_id_whole(tmp_path: Path) -> None:
    domain = ".".join(["a" * 60, "b" * 60, "example"])
    message = write(tmp_path, {"from": f"hello@{domain}"})
    assert message["Message-ID"].strip().endswith(f"@{domain}>")
    assert b"=?" not in message.as_bytes()


@pytest.mark.parametrize("option", ["to", "sender", "subject", "reply_to"])
@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\x9b"])
def test_a_line_break_in_a_header_kills_the_job(tmp_path: Path, option: str, break_: str) -> None:
    evil = f"ines@example.com{break_}Bcc: eve@example.com"
    action = mailer(tmp_path, reply_to="help@tea.example")
    with pytest.raises(Permanent) as raised:
        perform(action, make_job(action, None, **{option: evil}))  # type: ignore[arg-type]
    assert "eve@" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_line_break_in_an_own_header_kills_the_job(tmp_path: Path) -> None:
    action = mailer(tmp_path, headers={"X-Tier": "x"})
    with pytest.raises(Permanent, match=r"headers\.X-Tier"):
        perform(action, make_job(action, headers={"X-Tier": "gold\r\nBcc: eve@example.com"}))


@pytest.mark.parametrize(
    "address",
    [
        "ines",
        "ines@",
        "@example.com",
        "ines@@example.com",
        "ines example.com",
        "a b@example.com",
        "ines..x@example.com",
        ".ines@example.com",
        "ines@exa mple.com",
        "ines@-example.com",
        "ines@[127.0.0.1]",
        '"ines x"@example.com',
        f"{'x' * 65}@example.com",
        "<>",
        "group: ;",
        ",",
    ],
)
def test_what_is_no_address_kills_the_job_and_is_not_shown(tmp_path: Path, address: str) -> None:
    action = mailer(tmp_path)
    with pytest.raises((Permanent, Skip)) as raised:
        perform(action, make_job(action, to=address))
    assert "ines" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_several_recipients_as_the_configuration_names_them(tmp_path: Path) -> None:
    message = write(tmp_path, {"to": "a@example.com, Bob <b@example.com>"})
    assert [address.addr_spec for address in message["To"].addresses] == ["a@example.com", "b@example.com"]


def test_an_event_cannot_add_a_recipient(tmp_path: Path) -> None:
    # Given a customer who calls themselves by an address
    action = mailer(tmp_path, to="{{ event.customer.name }} <{{ event.customer.email }}>")
    # When the option renders to two addresses
    with pytest.raises(Permanent, match="2 addresses where the configuration names 1") as raised:
        perform(action, make_job(action, to="eve@example.com, x <ines@example.com>"))
    # Then nothing goes out
    assert "eve@" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("template", "number"),
    [
        ("", 0),
        ("a@example.com", 1),
        ("a@example.com, b@example.com", 2),
        ("{{ event.customer.metadata.all | join(',') }}", 1),
        ('"Tea, house" <a@example.com>', 1),
        ("a@example.com{% if event.tier %}, b@example.com{% endif %}", 2),
    ],
)
def test_how_many_addresses_are_written(template: str, number: int) -> None:
    assert count_written(template) == number


def test_a_domain_beyond_ascii(tmp_path: Path) -> None:
    message = write(tmp_path, to="Ines <ines@straße.example>")
    assert message["To"].addresses[0].addr_spec == "ines@xn--strae-oqa.example"


def test_a_name_beyond_ascii(tmp_path: Path) -> None:
    message = write(tmp_path, to="Zoë Müller <zoe@example.com>")
    assert message["To"].addresses[0].display_name == "Zoë Müller"


def test_nothing_to_say_or_nobody_to_say_it_to_skips(tmp_path: Path) -> None:
    action = mailer(tmp_path, html="x")
    with pytest.raises(Skip, match="text and html are both empty"):
        perform(action, make_job(action, text="", html=" "))
    with pytest.raises(Skip, match="option to is empty"):
        perform(action, make_job(action, to=""))


def test_half_a_character_does_not_stop_a_mail(tmp_path: Path) -> None:
    assert "Hi \ufffd" in write(tmp_path, text="Hi \ud83d").get_content()


def test_a_folder_is_private_and_a_repeat_overwrites(tmp_path: Path) -> None:
    # Given a folder that does not exist
    folder = tmp_path / "out" / "mails"
    action = mailer(folder)
    job = make_job(action)
    # When a job is performed twice, and another one once
    told = perform(action, job)
    perform(action, job)
    perform(action, make_job(action))
    # Then each has one file, whole, for its owner only
    files = sorted(folder.iterdir())
    assert len(files) == 2
    assert all(file.suffix == ".eml" for file in files)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert isinstance(told, str)
    assert Path(told.removeprefix("wrote ")) in files
    assert files[0].name[:4] == job.event.at[:4]


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    action = mailer(tmp_path / "taken")
    with pytest.raises(RetryLater, match="cannot write into"):
        perform(action, make_job(action))


def test_several_at_once_into_a_folder(tmp_path: Path) -> None:
    action = mailer(tmp_path)
    jobs: list[Job] = [make_job(action, sample_event()), make_job(action, to="nobody"), make_job(action)]
    with ActionRunner(action) as runner:
        outcomes = runner.perform_at_once(jobs)
    assert [type(outcome) for outcome in outcomes] == [str, Permanent, str]
    assert len(list(tmp_path.iterdir())) == 2
