"""The email kind without a server: where mail goes, addresses, and the message itself."""

from __future__ import annotations

import base64
import email.policy
import re
import stat
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import marshmallow
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercast.actions import Action, Job, Permanent, RetryLater, Skip
from tiercast.cli import main
from tiercast.config import load_config
from tiercast.config.model import ActionSpec
from tiercast.errors import ConfigError
from tiercast.runner import ActionRunner, perform
from tiercast.samples import sample_event
from tiercast.settings import load_settings
from tiercast.testing import make_action, make_job
from worker.actions.email import Email
from worker.actions.mail.addresses import Mailbox, count_written, read_addresses
from worker.actions.mail.message import People, build_mail
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


WORD = re.compile(r"=\?utf-8\?([bq])\?([^?]*)\?=")


def unfolded(content: bytes, name: str) -> str:
    """The header of that name, as it stands in the mail, without folding."""
    head = re.sub(r"\r\n(?=[ \t])", "", content.partition(b"\r\n\r\n")[0].decode())
    (found,) = [line for line in head.split("\r\n") if line.lower().startswith(f"{name.lower()}:")]
    return found.partition(": ")[2]


def shown(header: str) -> str:
    """What a mail program shows of a header (RFC 2047), not by Python's own parser."""

    def one(word: re.Match[str]) -> str:
        if word[1] == "b":
            return base64.b64decode(word[2]).decode()
        return re.sub(rb"=(..)", lambda hex_: bytes([int(hex_[1], 16)]), word[2].replace("_", " ").encode()).decode()

    return WORD.sub(one, re.sub(r"(?<=\?=) (?==\?)", "", header))


def written(directory: Path, configured: dict[str, Any] | None = None, **rendered: Any) -> bytes:
    """The bytes of one mail."""
    action = mailer(directory, **(configured or {}))
    perform(action, make_job(action, **rendered))
    (file,) = directory.iterdir()
    return file.read_bytes()


def names_of(content: bytes) -> list[str]:
    lines = content.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return [line.partition(":")[0] for line in lines if line[0] not in " \t"]


USUAL = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]

HOSTILE = [
    "=?utf-8?q?x=0D=0ABcc:_thief@example.org?=",
    "=?utf-8?q?x=0D=0A=0D=0APay_here?=",
    "=?UTF-8?B?eA0KQmNjOiB0aGllZkBleGFtcGxlLm9yZw==?=",
    "=?us-ascii?Q?=0ABcc:_thief@example.org?= =?utf-8?q?=0D?=",
    "=?utf-8*en?q?x=0D=0ABcc:_a@b.example?=",
    "=?",
    "?= =?utf-8?q?",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_value_is_decoded(tmp_path: Path, name: str) -> None:
    # Given a customer's name that is an encoded word, wherever a configuration may put it
    content = written(
        tmp_path,
        {"headers": {"X-Name": "x"}, "cc": "x@example.com", "reply_to": "x@example.com"},
        subject=f"Welcome {name}",
        to=f"{name} <ines@example.com>",
        cc=f'"{name}" <team@example.com>',
        reply_to=f"{name} <help@example.com>",
        headers={"X-Name": name},
    )
    # Then there are no other headers, and the name is shown as it is
    wanted = ["From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Name"]
    assert names_of(content)[: len(wanted)] == wanted
    assert not re.search(rb"(?im)^\s*bcc", content)
    assert shown(unfolded(content, "Subject")) == f"Welcome {name}"
    assert shown(unfolded(content, "X-Name")) == name
    assert content.partition(b"\r\n\r\n")[2] == b"Hi\r\n"
    # And Python's parser, which decodes, finds it inside the value and no header beside it
    assert message_from_bytes(content)["Bcc"] is None


@pytest.mark.parametrize(
    "name",
    [
        "Ann\u00a0Smith",
        "Kim \U0001f469\u200d\U0001f9b0",
        "\u0646\u0631\u06af\u0633\u200c\u062e\u0627\u062a\u0648\u0646",
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
        "\u200f\u05d3\u05e0\u05d4",
        "\u5c71\u7530\u3000\u592a\u90ce",
        "Anna\u00adlena",
        "two\u2028lines\u2029",
        "\ufeffAnn\u2060",
        "\u202aAnn\u202c",
        "J\u00fcrgen M\u00fcller \u2013 Ihre Gr\u00fc\u00dfe aus K\u00f6ln f\u00fcr die sch\u00f6ne \u00dcberraschung",
        "a  b   c    d",
        "tab\tbed",
        'Ann "Annie" O\\Hara',
        "Doe; Jane (Ms.) <3",
        "x" * 1200,
        "word " * 300 + "end",
        "\u65e5\u672c" * 200,
    ],
)
def test_names_are_ordinary_text(tmp_path: Path, name: str) -> None:
    # When a name stands in a subject, a header of one's own, and the name of a recipient
    content = written(
        tmp_path,
        {"headers": {"X-Name": "x"}},
        subject=f"Welcome {name}.",
        to=f"{name} <ines@example.com>",
        headers={"X-Name": f"{name}."},
    )
    # Then each holds it exactly, blanks as well
    assert shown(unfolded(content, "Subject")) == f"Welcome {name}."
    assert shown(unfolded(content, "X-Name")) == f"{name}."
    to = shown(unfolded(content, "To"))
    assert to.endswith(" <ines@example.com>")
    told = to.removesuffix(" <ines@example.com>")
    if told.startswith('"'):
        told = re.sub(r"\\(.)", r"\1", told[1:-1])
    assert told == name
    # And the lines are such as every server takes
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert all(line.strip() for line in content.partition(b"\r\n\r\n")[0].split(b"\r\n"))


def test_a_list_header_stays_plain_and_in_one_line(tmp_path: Path) -> None:
    address = f"<https://tea.example/stop?key={'a1' * 150}>, <mailto:stop@tea.example?subject=stop>"
    content = written(
        tmp_path,
        {"headers": {"List-Unsubscribe": address, "list-unsubscribe-post": "List-Unsubscribe=One-Click"}},
    )
    assert f"\r\nList-Unsubscribe: {address}\r\n".encode() in content
    assert b"\r\nlist-unsubscribe-post: List-Unsubscribe=One-Click\r\n" in content


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("<https://tea.example/Zoë>", "urlencode"),
        ("=?utf-8?q?x?= <https://tea.example>", "urlencode"),
        (f"<https://tea.example/{'a' * 1000}>", "longer than a line"),
        ("<https://tea.example/>\r\nBcc: eve@example.com", "line break"),
    ],
)
def test_a_list_header_that_cannot_be_plain(tmp_path: Path, value: str, message: str) -> None:
    # Given as a value of an event, it is that job's own
    action = mailer(tmp_path, headers={"List-Unsubscribe": "<https://tea.example/>"})
    with pytest.raises(Permanent, match=r"headers\.List-Unsubscribe") as raised:
        perform(action, make_job(action, headers={"List-Unsubscribe": value}))
    assert message in str(raised.value)
    # And given in the configuration, it is refused at start
    with pytest.raises(ValueError, match="headers: List-Unsubscribe"):
        mailer(tmp_path, headers={"List-Unsubscribe": value})


def test_a_header_that_renders_empty_is_left_out(tmp_path: Path) -> None:
    content = written(tmp_path, {"headers": {"X-Campaign": "{{ event.campaign.name }}"}}, headers={"X-Campaign": " "})
    assert names_of(content)[: len(USUAL)] == USUAL


def test_the_comma_between_recipients_is_not_encoded(tmp_path: Path) -> None:
    long_ = "a-customer-whose-address-is-nearly-as-long-as-a-header-line-is@example.org"
    content = written(tmp_path, {"to": f"{long_}, Jörg vom Laden <laden@example.com>, Team <team@example.com>"})
    assert shown(unfolded(content, "To")) == f"{long_}, Jörg vom Laden <laden@example.com>, Team <team@example.com>"


def test_a_name_in_quotes_may_hold_a_comma(tmp_path: Path) -> None:
    action = mailer(tmp_path, to='"{{ event.customer.name }}" <{{ event.customer.email }}>')
    perform(action, make_job(action, to='"Doe, "Jay" Jane" <jane@example.com>'))
    (message,) = sent(tmp_path)
    assert [(one.display_name, one.addr_spec) for one in message["To"].addresses] == [
        ('Doe, "Jay" Jane', "jane@example.com")
    ]


@pytest.mark.parametrize(
    "to",
    [
        'x" <eve@example.com>, "y <ines@example.com>',
        '"x" <eve@example.com>, "y" <ines@example.com>',
        "eve@example.com,ines@example.com",
        '"" <eve@example.com>, <ines@example.com>',
    ],
)
def test_no_name_adds_a_recipient(tmp_path: Path, to: str) -> None:
    action = mailer(tmp_path, to="{{ event.customer.name }} <{{ event.customer.email }}>")
    with pytest.raises(Permanent):
        perform(action, make_job(action, to=to))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("domain", "sent_to"),
    [
        ("ab--cd.example", "ab--cd.example"),
        ("xn--laden-fy93d.example", "xn--laden-fy93d.example"),
        ("☕laden.example", "xn--laden-le1c.example"),
        ("Straße.example", "xn--strae-oqa.example"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("mail_1.example", "mail_1.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("example.com.", "example.com"),
        ("123.example", "123.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_domains_that_work(tmp_path: Path, domain: str, sent_to: str) -> None:
    assert unfolded(written(tmp_path, to=f"ada@{domain}"), "To") == f"ada@{sent_to}"


@pytest.mark.parametrize(
    "address",
    [
        "ada@ex\u00a0ample.com",
        "a\u00a0da@example.com",
        "a\u200bda@example.com",
        "ada@" + "a" * 64 + ".example",
        "ada@example..com",
        "ada@.example",
        "ada@-x.example",
        "ada@ex☕am ple.com",
        "ada@exa/mple.com",
        "ada@" + "a." * 127 + "example",
        "Ann <ada@example.com> x",
        "Ann <ada@example.com",
        "Ann ada@example.com>",
        "<@relay.example:ada@example.com>",
        "x" * 30_000 + "@example.com",
        "Doe, . Jane <ada@example.com>",
        "\udc80@example.com",
        "ada@\udc80.example",
    ],
)
def test_a_malformed_address_is_dead_at_once(tmp_path: Path, address: str) -> None:
    action = mailer(tmp_path)
    with pytest.raises(Permanent) as raised:
        perform(action, make_job(action, to=address))
    assert "ada" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@given(
    name=st.text(max_size=300),
    subject=st.text(max_size=300),
    value=st.text(max_size=300),
    text=st.text(max_size=500),
)
@settings(max_examples=300, deadline=None)
def test_whatever_an_event_holds_the_headers_are_ours(name: str, subject: str, value: str, text: str) -> None:
    sender = Mailbox("Tea house", "hello", "tea.example")
    try:
        to = read_addresses("to", f"{name} <ines@example.com>", most=1)
        mail = build_mail(
            "key", People(sender=sender, to=to), subject=subject, text=f"Hi {text}", html="", headers={"X-Own": value}
        )
    except Permanent:
        return
    allowed = [*USUAL, "Content-Transfer-Encoding"]
    assert [one for one in names_of(mail.content) if one != "X-Own"] == allowed
    assert mail.recipients == ("ines@example.com",)
    assert mail.content.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", mail.content)
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    body = message_from_bytes(mail.content).get_payload(decode=True)
    assert isinstance(body, bytes)
    assert re.sub(r"\r\n|\r|\n", "\n", body.decode()).rstrip("\n") == re.sub(r"\r\n|\r|\n", "\n", f"Hi {text}").rstrip(
        "\n"
    )


def test_a_body_cannot_end_its_part(tmp_path: Path) -> None:
    # Given a text that holds what separates the parts of this very mail
    first = written(tmp_path / "a", {"html": "x"}, key="k", text="x", html="<p>x</p>")
    found = re.search(rb'boundary="([^"]+)"', first)
    assert found
    boundary = found[1].decode()
    content = written(tmp_path / "b", {"html": "x"}, key="k", text=f"x\n--{boundary}--\nevil", html="<p>x</p>")
    parts = list(message_from_bytes(content, policy=email.policy.default).iter_parts())
    assert len(parts) == 2
    assert "evil" in parts[0].get_content()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "ines"}, "to: is not an e-mail address"),
        ({"from": "a@tea.example, b@tea.example"}, "from: is not exactly one address"),
        ({"cc": "team@exa mple.com"}, "cc: is not an e-mail address"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers: x-a stands there twice"),
        ({"headers": {"X-A": "a\nb"}}, "headers: X-A holds a line break"),
        ({"server": "smtp://localhost", "ehlo": "two words"}, "ehlo: is no name of a host"),
        ({"server": "smtp://localhost", "ehlo": "x\r\nMAIL"}, "ehlo: is no name of a host"),
    ],
)
def test_what_is_fixed_is_checked_at_the_start(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_action(Email, BASE | {"server": "file:x"} | options)


CONFIGURATION = """
[sources.voucherify]
secrets = ["env:VOUCHERIFY_SECRET"]

[actions.mail]
kind = "email"
server = "file:mails"
from = "hello@tea.example"
to = "{{ event.customer.email }}"
subject = "Hello"
ADDED

[[rules]]
on = "customer.loyalty.tier.joined"
do = ["mail"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file's folder; the process is in another."""
    folder = tmp_path / "conf"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIERCAST_CONFIG", str(folder / "tiercast.toml"))
    monkeypatch.setenv("VOUCHERIFY_SECRET", "a-secret-of-the-tests")
    return folder


def loaded(folder: Path, added: str) -> ActionSpec:
    (folder / "tiercast.toml").write_text(CONFIGURATION.replace("ADDED", added), encoding="utf-8")
    return load_config(load_settings()).actions["mail"]


def checked(folder: Path, added: str) -> Result:
    (folder / "tiercast.toml").write_text(CONFIGURATION.replace("ADDED", added), encoding="utf-8")
    return CliRunner().invoke(main, ["check", "--offline"])


def test_text_and_html_may_stand_in_files_beside_the_configuration(folder: Path) -> None:
    # Given two templates, one with a byte order mark
    (folder / "mails").mkdir()
    (folder / "mails" / "welcome.html").write_bytes("\ufeff<p>Grüße, {{ event.customer.name }}</p>".encode())
    (folder / "welcome.txt").write_text("Grüße, {{ event.customer.name }}", encoding="utf-8")
    # When the configuration names them
    spec = loaded(folder, 'html = "file:mails/welcome.html"\ntext = "file:welcome.txt"')
    # Then they are rendered as if they stood in it, escaped in HTML only
    options = spec.render(sample_event(name="<Ines>"))
    assert options.html == "<p>Grüße, &lt;Ines&gt;</p>"
    assert options.text == "Grüße, <Ines>"


def test_a_text_that_is_none_of_a_file(folder: Path) -> None:
    assert loaded(folder, 'text = "file: see below\\nx"').render(sample_event()).text == "file: see below\nx"


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ('html = "file:nowhere.html"', "actions.mail.html: the file"),
        ('html = "file:nowhere.html"', "cannot be read: No such file or directory; relative paths start at"),
        ('html = "file:latin.html"', "cannot be read: no UTF-8"),
        ('html = "file:empty.html"', "is empty"),
        ('html = "file:"', "expected file:PATH"),
        ('text = "file:{{ event.tier.name }}.txt"', "the path cannot be a template"),
        ('html = "file:wrong.html"', "actions.mail.html"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, added: str, message: str) -> None:
    (folder / "latin.html").write_bytes("Grüße".encode("latin-1"))
    (folder / "empty.html").write_text(" \n")
    (folder / "wrong.html").write_text("<p>\n{{ event.customer.name }</p>")
    with pytest.raises(ConfigError) as raised:
        loaded(folder, added)
    assert message in str(raised.value)


def test_check_builds_the_mail(folder: Path) -> None:
    # Given options that render well, and make no mail
    done = checked(folder, 'text = "x"\ncc = "{{ event.customer.name }}"')
    # Then check says why, and fails
    assert done.exit_code == 1
    assert "would be dead for an ordinary event" in done.output
    assert "option cc is not an e-mail address" in done.output
    assert not (folder.parent / "mails").exists()


def test_check_finds_an_address_in_a_list_header_that_is_not_plain(folder: Path) -> None:
    done = checked(folder, 'text = "x"\nheaders.List-Unsubscribe = "<https://t.example/{{ event.tier.name }}ü>"')
    assert done.exit_code == 1
    assert "option headers.List-Unsubscribe holds what is not plain ASCII" in done.output


def test_check_is_content_with_a_mail_that_can_be_built(folder: Path) -> None:
    done = checked(folder, 'text = "x"\nheaders.List-Unsubscribe = "<https://t.example/{{ event.id | urlencode }}>"')
    assert done.exit_code == 0, done.output
    assert "actions.mail: renders for" in done.output
