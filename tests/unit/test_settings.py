"""Settings from the environment: defaults, values, and one message for each mistake that names the variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.servers.certificate import make_certificate
from tiercast.errors import SettingsError
from tiercast.history.address import HistoryAddress
from tiercast.settings import Settings, load_settings


def refusal(**environ: str) -> str:
    """The message that an environment is refused with."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return str(caught.value)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = load_settings({})
    assert settings.config == Path("tiercast.toml")
    assert not settings.config_named
    assert settings.redis_url == settings.broker_url == "redis://127.0.0.1:6379/0"
    assert settings.prefix == "tc"
    assert settings.webhook_secrets == ()
    assert settings.hash_key is None
    assert settings.durability == "written"
    assert settings.spool_dir is None
    assert settings.demo_dir is None
    assert (settings.max_body, settings.max_owed, settings.memory_share) == (2**20, 5_000_000, 0.8)
    assert (settings.lease, settings.keep_days, settings.keep_dead_days) == (30.0, 7.0, 30.0)
    assert (settings.log_format, settings.log_level) == ("text", "info")
    assert settings.keep_history_days == 90.0
    assert settings.history == HistoryAddress.read("sqlite:///.tiercast/history.db")


def test_variables_that_are_set_but_empty_count_as_not_set() -> None:
    # Given what a Compose file makes of variables that nobody filled in
    names = [name for name in ALL if name != "TIERCAST_CONFIG"]
    assert_same(load_settings(dict.fromkeys(names, " ")), load_settings({}))
    assert not load_settings({"TIERCAST_CONFIG": " "}).config_named


def assert_same(one: Settings, other: Settings) -> None:
    assert {name: getattr(one, name) for name in Settings.__slots__} == {
        name: getattr(other, name) for name in Settings.__slots__
    }


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("TIERCAST_CONFIG", "/etc/tiercast.toml", "config", Path("/etc/tiercast.toml")),
        ("TIERCAST_CONFIG", "tiercast.toml", "config_named", True),
        ("TIERCAST_REDIS_URL", " rediss://:pw@ledger:6380/2 ", "redis_url", "rediss://:pw@ledger:6380/2"),
        ("TIERCAST_REDIS_URL", "redis://ledger", "broker_url", "redis://ledger"),
        ("TIERCAST_BROKER_URL", "unix:///run/redis.sock", "broker_url", "unix:///run/redis.sock"),
        ("TIERCAST_REDIS_URL", "unix:///run/redis.sock?db=3", "redis_url", "unix:///run/redis.sock?db=3"),
        ("TIERCAST_REDIS_URL", "redis://[::1]:6379/0", "redis_url", "redis://[::1]:6379/0"),
        ("TIERCAST_BROKER_URL", "amqp://u:p@rabbit//", "broker_url", "amqp://u:p@rabbit//"),
        ("TIERCAST_BROKER_URL", "sqla+postgresql://u@db/x", "broker_url", "sqla+postgresql://u@db/x"),
        ("TIERCAST_PREFIX", "shop-1", "prefix", "shop-1"),
        (
            "TIERCAST_WEBHOOK_SECRETS",
            " new-secret-of-ours , old-secret-of-ours,,new-secret-of-ours",
            "webhook_secrets",
            ("new-secret-of-ours", "old-secret-of-ours"),
        ),
        ("TIERCAST_HASH_KEY", "0123456789abcdef\n", "hash_key", "0123456789abcdef"),
        ("TIERCAST_DURABILITY", "fsync", "durability", "fsync"),
        ("TIERCAST_DURABILITY", "replica:12", "durability", "replica:12"),
        ("TIERCAST_SPOOL_DIR", "spool", "spool_dir", Path("spool")),
        ("TIERCAST_DEMO_DIR", "demo", "demo_dir", Path("demo")),
        ("TIERCAST_MAX_BODY", "1024", "max_body", 1024),
        ("TIERCAST_MAX_OWED", "7", "max_owed", 7),
        ("TIERCAST_MEMORY_SHARE", "0.5", "memory_share", 0.5),
        ("TIERCAST_LEASE", "2.5", "lease", 2.5),
        ("TIERCAST_KEEP_DAYS", "0", "keep_days", 0.0),
        ("TIERCAST_KEEP_DAYS", "30", "keep_history_days", 30.0),
        ("TIERCAST_KEEP_DEAD_DAYS", "90", "keep_dead_days", 90.0),
        ("TIERCAST_LOG_FORMAT", "json", "log_format", "json"),
        ("TIERCAST_LOG_LEVEL", "error", "log_level", "error"),
    ],
)
def test_values(name: str, text: str, field: str, value: Any) -> None:
    assert getattr(load_settings({name: text}), field) == value


REFUSED = [
    ("TIERCAST_REDIS_URL", "http://ledger", "does not start with redis://, rediss://, unix:// or sentinel://"),
    ("TIERCAST_REDIS_URL", "ledger:6379", "does not start with redis://"),
    ("TIERCAST_REDIS_URL", "redis://ledger:port/0", "no usable host and port"),
    ("TIERCAST_REDIS_URL", "redis://ledger:0/0", "no usable port"),
    ("TIERCAST_REDIS_URL", "redis://[::1/0", "no usable host and port"),
    ("TIERCAST_REDIS_URL", "redis://ledger/first", "does not end with the number of a database"),
    ("TIERCAST_REDIS_URL", "unix://", "no usable path"),
    ("TIERCAST_REDIS_URL", "redis://ledger?socket_timeout=3", "has the option 'socket_timeout', which Tiercast does"),
    ("TIERCAST_REDIS_URL", "rediss://ledger?ssl_ca_certs=/none.pem", "names /none.pem as ssl_ca_certs, which cannot"),
    ("TIERCAST_BROKER_URL", "redis://ledger?socket_timeout=3", "has the option 'socket_timeout', which Tiercast does"),
    ("TIERCAST_BROKER_URL", "redis://ledger/first", "does not end with the number of a database"),
    ("TIERCAST_BROKER_URL", "amqps://rabbit//?ssl_ca_certs=/none.pem", "names /none.pem as ssl_ca_certs, which cannot"),
    ("TIERCAST_BROKER_URL", "rabbit:5672", "does not start with a scheme such as redis:// or amqp://"),
    ("TIERCAST_PREFIX", "a b", "expected letters, digits and"),
    ("TIERCAST_PREFIX", "x" * 65, "expected letters, digits and"),
    ("TIERCAST_HASH_KEY", "tea", "has 3 characters; expected 16 or more"),
    ("TIERCAST_DURABILITY", "replica", "expected written, fsync or replica:N"),
    ("TIERCAST_DURABILITY", "replica:0", "expected written, fsync or replica:N"),
    ("TIERCAST_DURABILITY", "Fsync", "expected written, fsync or replica:N"),
    ("TIERCAST_MAX_BODY", "256k", "expected a whole number (bytes)"),
    ("TIERCAST_MAX_BODY", "1023", "expected bytes between 1024 and 8388608"),
    ("TIERCAST_MAX_OWED", "1.5", "expected a whole number (deliveries)"),
    ("TIERCAST_MAX_OWED", "0", "expected deliveries between 1 and 1000000000"),
    ("TIERCAST_MAX_OWED", "9" * 5000, "expected a whole number (deliveries)"),
    ("TIERCAST_MEMORY_SHARE", "80", "expected a share of the ledger's maxmemory between 0.1 and 0.95"),
    ("TIERCAST_HISTORY_URL", "history.db", "does not start with sqlite:/// or postgresql://"),
    ("TIERCAST_HISTORY_URL", "mysql://db/tiercast", "names a database that Tiercast does not know"),
    ("TIERCAST_HISTORY_URL", "sqlite://history.db", "has two slashes before the file's path"),
    ("TIERCAST_HISTORY_URL", "sqlite:///:memory:", "names no file"),
    ("TIERCAST_HISTORY_URL", "sqlite:////var/lib/", "names no file"),
    ("TIERCAST_HISTORY_URL", "sqlite:///history.db?mode=ro", "has options behind the file's path"),
    ("TIERCAST_HISTORY_URL", "postgresql://db.internal", "names no database behind its host"),
    ("TIERCAST_HISTORY_URL", "postgresql://db.internal:port/tiercast", "has a port that is no number"),
    ("TIERCAST_LEASE", "soon", "expected a number (seconds)"),
    ("TIERCAST_LEASE", "nan", "expected a number (seconds)"),
    ("TIERCAST_LEASE", "1_0", "expected a number (seconds)"),
    ("TIERCAST_LEASE", "-5", "expected seconds between 1 and 3600"),
    ("TIERCAST_KEEP_DAYS", "1 week", "expected a number (days)"),
    ("TIERCAST_KEEP_DEAD_DAYS", "inf", "expected a number (days)"),
    ("TIERCAST_LOG_FORMAT", "xml", "expected text or json"),
    ("TIERCAST_LOG_LEVEL", "verbose", "expected debug, info, warning or error"),
    ("TIERCAST_EMAIL_SERVER", "mail.shop.example", "expected smtp://host, smtp://host:587"),
    ("TIERCAST_EMAIL_SERVER", "smtp://", "expected smtp://host, smtp://host:587"),
    ("TIERCAST_EMAIL_SERVER", "smtp://u:hunter-two@mail", "holds a password; give it to the action"),
    ("TIERCAST_EMAIL_FROM", "Rewards", "is not exactly one address"),
    ("TIERCAST_EMAIL_FROM", "a@shop.example, b@shop.example", "is not exactly one address"),
]


@pytest.mark.parametrize(("name", "text", "expected"), REFUSED)
def test_a_value_that_cannot_be_used_names_its_variable(name: str, text: str, expected: str) -> None:
    message = refusal(**{name: text})
    assert message.startswith(f"{name} ")
    assert expected in message
    assert "\n" not in message
    assert len(message) < 300


#: Every variable; the two defaults of the kind `email` are validated here too, and read by the kind.
ALL = sorted(
    {name for name, _, _ in REFUSED}
    | {"TIERCAST_CONFIG", "TIERCAST_WEBHOOK_SECRETS", "TIERCAST_SPOOL_DIR", "TIERCAST_DEMO_DIR"}
)


@pytest.mark.parametrize("text", ["smtp://mail.shop.example", "smtps://ada@mail:465", "file:mails", "file:/a:b@c"])
def test_mail_servers_that_can_be_used(text: str) -> None:
    load_settings({"TIERCAST_EMAIL_SERVER": text, "TIERCAST_EMAIL_FROM": "Rewards <rewards@shop.example>"})


@pytest.mark.parametrize(
    "environ",
    [
        {"TIERCAST_REDIS_URL": "http://:hunter-two@ledger"},
        {"TIERCAST_REDIS_URL": "redis://:hunter-two@ledger:port/0"},
        {"TIERCAST_REDIS_URL": "redis://:hunter-two@ledger/x"},
        {"TIERCAST_BROKER_URL": "user:hunter-two@rabbit"},
        {"TIERCAST_HASH_KEY": "hunter-two"},
        {"TIERCAST_HISTORY_URL": "postgresql://u:hunter-two@db"},
        {"TIERCAST_HISTORY_URL": "mysql://u:hunter-two@db/tiercast"},
        {"TIERCAST_EMAIL_SERVER": "smtp://u:hunter-two@mail"},
        {"TIERCAST_EMAIL_SERVER": "u:hunter-two@mail"},
    ],
)
def test_messages_repeat_nothing_secret(environ: dict[str, str]) -> None:
    assert "hunter-two" not in refusal(**environ)


def test_a_ca_for_all_addresses_with_tls(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    environ = {"TIERCAST_REDIS_URL": "rediss://ledger/1", "TIERCAST_REDIS_CA": str(made.path)}
    settings = load_settings(environ)
    assert settings.redis_url == settings.broker_url == f"rediss://ledger/1?ssl_ca_certs={made.path}"
    assert load_settings(environ | {"TIERCAST_BROKER_URL": "amqp://rabbit//"}).broker_url == "amqp://rabbit//"

    missing = refusal(**environ | {"TIERCAST_REDIS_CA": "/none.pem"})
    assert "names /none.pem" in missing

    plain = refusal(TIERCAST_REDIS_URL="redis://ledger/1", TIERCAST_REDIS_CA=str(made.path))
    assert plain.startswith("TIERCAST_REDIS_CA is set, but no address starts with rediss://")


def test_a_long_value_is_cut_in_its_message() -> None:
    assert "x" * 61 not in refusal(TIERCAST_LOG_FORMAT="x" * 500)


def test_the_repr_names_nothing_secret() -> None:
    settings = load_settings(
        {
            "TIERCAST_REDIS_URL": "redis://:hunter-two@ledger/0",
            "TIERCAST_WEBHOOK_SECRETS": "hunter-two-hunter-two",
            "TIERCAST_HASH_KEY": "hunter-two-hunter-two",
            "TIERCAST_HISTORY_URL": "postgresql://u:hunter-two@db/tiercast",
        }
    )
    assert "hunter" not in repr(settings)
    assert "hunter" not in repr(settings.history)


@pytest.mark.parametrize(
    ("text", "dialect", "place"),
    [
        ("sqlite:////var/lib/tea%20house/history.db", "sqlite", "/var/lib/tea house/history.db"),
        ("sqlite:///history.db", "sqlite", "history.db"),
        ("postgresql://u:pw@db.internal:6432/tiercast?sslmode=require", "postgresql", "db.internal:6432/tiercast"),
        ("postgres://u:pw@db.internal/tiercast", "postgresql", "db.internal/tiercast"),
        ("postgresql:///tiercast?host=/run/postgresql", "postgresql", "localhost/tiercast"),
    ],
)
def test_addresses_of_the_history(text: str, dialect: str, place: str) -> None:
    history = load_settings({"TIERCAST_HISTORY_URL": text}).history
    assert (history.dialect, history.place) == (dialect, place)


def test_the_history_lies_in_the_data_folder_unless_it_is_told_otherwise() -> None:
    assert load_settings({"TIERCAST_DATA": "/srv/tea house"}).history.place == "/srv/tea house/history.db"


def test_short_webhook_secrets_are_refused_with_the_remedy_and_not_shown() -> None:
    told = refusal(TIERCAST_WEBHOOK_SECRETS="a-secret-that-is-long-enough,hunter-two")
    assert "TIERCAST_WEBHOOK_SECRETS: secret 2 of 2 has 10 characters" in told
    assert "Copy the project's secret" in told
    assert "hunter" not in told
