"""The commands that need no ledger: check --offline, verify, kinds, actions test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from marshmallow import fields

from tiercast.actions import Action, Halt, Job, Permanent, RetryLater, Secret, Skip, Unknown
from tiercast.cli import main
from tiercast.cli.checks.queues import _compare
from tiercast.samples import envelope, sample_data
from tiercast.signature import sign, strip_whitespace

Run = Callable[..., Result]

CONFIG = """
[sources.voucherify]
secrets = ["env:FIRST_SECRET", "env:SECOND_SECRET"]

[actions.mail]
kind = "email"
server = "file:MAIL"
to = "{{ event.customer.email }}"
subject = "Welcome to {{ event.tier.name }}"
text = "Hello {{ event.customer.name or 'there' }}"

[actions.stars]
kind = "tests.unit.test_cli_config:Stars"
token = "env:STARS_TOKEN"
how = "{{ event.customer.name }}"

[[rules]]
on = "customer.loyalty.tier.joined"
do = ["mail", "stars"]
"""


class Stars(Action):
    """Give stars.

    Only in tests.
    """

    kind = "stars"
    repeatable = False

    class Options(Action.Options):
        token = Secret(required=True, metadata={"description": "of the vendor"})
        how = fields.String(load_default="kindly")
        many = fields.Integer(load_default=3)

    def perform(self, job: Job) -> str | None:
        outcomes: dict[str, Exception] = {
            "Later": RetryLater("busy"),
            "Dead": Permanent("no such card"),
            "Skip": Skip("nothing to do"),
            "Halt": Halt("the token is refused"),
            "Unknown": Unknown("no answer"),
            "Fault": ValueError("a fault"),
        }
        if error := outcomes.get(job.options.how):
            raise error
        return f"{job.options.many} stars, key {job.key}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiercast.toml").write_text(CONFIG.replace("MAIL", str(tmp_path / "mail")))
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    env = {
        "TIERCAST_CONFIG": str(folder / "tiercast.toml"),
        "TIERCAST_DATA": str(folder / "none"),
        "TIERCAST_REDIS_URL": "redis://127.0.0.1:1/0",
        "TIERCAST_WEBHOOK_SECRETS": "",
        "FIRST_SECRET": "first-secret-of-tests",
        "SECOND_SECRET": "second-secret-of-tests",
        "STARS_TOKEN": "stars-token",
    }

    def call(*args: str, status: int = 0, **kwargs: Any) -> Result:
        result = CliRunner(env=env).invoke(main, args, **kwargs)
        assert result.exit_code == status, result.output
        for secret in ("first-secret-of-tests", "second-secret-of-tests", "stars-token"):
            assert secret not in result.output
        return result

    return call


class TestVerify:
    BODY = b'{ "a": "b c",\n "d": 1 }'

    @pytest.fixture
    def body(self, tmp_path: Path) -> str:
        path = tmp_path / "body.json"
        path.write_bytes(self.BODY)
        return str(path)

    def test_the_raw_bytes_match(self, run: Run, body: str) -> None:
        result = run("verify", "--body", body, "--signature", sign(self.BODY, "first-secret-of-tests"))
        assert "matches: secret 1 of 2 matches the raw bytes" in result.stdout

    def test_the_text_without_whitespace_matches(self, run: Run, body: str) -> None:
        signature = sign(strip_whitespace(self.BODY), "second-secret-of-tests")
        document = json.loads(run("verify", "--body", body, "--signature", signature, "--json").stdout)
        assert (document["matches"], document["secret"]) == (True, 2)
        assert "without whitespace" in document["reason"]

    def test_a_secret_by_reference(self, run: Run, body: str, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old-one\n")
        result = run(
            "verify", "--body", body, "--signature", sign(self.BODY, "old-one"), "--secret", f"file:{tmp_path}/old"
        )
        assert "secret 1 of 1" in result.stdout

    def test_the_body_from_standard_input(self, run: Run) -> None:
        run("verify", "--body", "-", "--signature", sign(b"no json", "first-secret-of-tests"), input=b"no json")

    @pytest.mark.parametrize(
        ("change", "hint"),
        [
            (str.upper, "in lower case"),
            (lambda signature: f"sha256={signature}", "without the prefix sha256="),
            (lambda signature: f" {signature}\n", "without the space"),
        ],
    )
    def test_a_header_in_another_form(self, run: Run, body: str, change: Callable[[str], str], hint: str) -> None:
        signature = change(sign(self.BODY, "first-secret-of-tests"))
        result = run("verify", "--body", body, "--signature", signature, status=1)
        assert "does not match: not 64 lower-case hex digits" in result.stdout
        assert hint in result.stdout

    @pytest.mark.parametrize(
        ("sent", "saved", "hint"),
        [
            (b"a b", b"a b\n", "without the line break at the file's end"),
            (b"text\n", b"text", "with a line break at the file's end"),
            (b"a\nb", b"a\r\nb", "with LF in place of CR LF"),
            (b"text", b"\xef\xbb\xbftext", "without the byte order mark"),
        ],
    )
    def test_a_body_that_was_changed_on_the_way(self, run: Run, sent: bytes, saved: bytes, hint: str) -> None:
        signature = sign(sent, "second-secret-of-tests")
        result = run("verify", "--body", "-", "--signature", signature, input=saved, status=1)
        assert "no secret of 2 matches" in result.stdout
        assert hint in result.stdout

    def test_a_wrong_secret(self, run: Run, body: str) -> None:
        result = run("verify", "--body", body, "--signature", sign(self.BODY, "other"), status=1)
        assert "no secret of 2 matches" in result.stdout
        assert "would match" not in result.stdout

    @pytest.mark.parametrize(
        ("args", "status", "said"),
        [
            (["--secret", "plain-text"], 2, "never the secret itself"),
            (["--secret", "env:NOT_SET_ANYWHERE"], 2, "NOT_SET_ANYWHERE"),
            (["--secret", "file:/nowhere/at/all"], 2, "/nowhere/at/all"),
            (["--secret", "env:FIRST_SECRET", "--source", "x"], 2, "not both"),
            (["--source", "elsewhere"], 1, "no source 'elsewhere'"),
        ],
    )
    def test_wrong_usage(self, run: Run, body: str, args: list[str], status: int, said: str) -> None:
        assert said in run("verify", "--body", body, "--signature", "x", *args, status=status).stderr

    def test_a_file_that_is_missing(self, run: Run) -> None:
        run("verify", "--body", "/nowhere/at/all", "--signature", "x", status=2)


class TestKinds:
    def test_the_built_in_ones_are_listed(self, run: Run) -> None:
        found = {each["name"]: each for each in json.loads(run("kinds", "list", "--json").stdout)["kinds"]}
        assert found.keys() >= {"email", "hubspot", "webhook", "log"}
        assert found["hubspot"]["bulk"]
        assert found["email"]["description"] in run("kinds", "list").stdout

    def test_one_is_shown_with_its_options(self, run: Run) -> None:
        text = run("kinds", "show", "tests.unit.test_cli_config:Stars").stdout
        assert "Give stars." in text
        assert "Only in tests." in text
        assert "leaves the job uncertain" in text
        document = json.loads(run("kinds", "show", "tests.unit.test_cli_config:Stars", "--json").stdout)
        assert (document["repeatable"], document["confirm"], document["bulk"]) == (False, False, False)
        assert document["options"] == [
            {
                "name": "token",
                "type": "secret",
                "required": True,
                "default": None,
                "secret": True,
                "description": "of the vendor",
            },
            {
                "name": "how",
                "type": "text",
                "required": False,
                "default": "kindly",
                "secret": False,
                "description": None,
            },
            {"name": "many", "type": "integer", "required": False, "default": 3, "secret": False, "description": None},
        ]

    def test_options_go_by_the_name_that_the_file_uses(self, run: Run) -> None:
        names = [each["name"] for each in json.loads(run("kinds", "show", "email", "--json").stdout)["options"]]
        assert "from" in names
        assert "sender" not in names

    @pytest.mark.parametrize("kind", ["email", "hubspot", "webhook", "log"])
    def test_every_built_in_one_can_be_shown(self, run: Run, kind: str) -> None:
        assert "repeatable" in run("kinds", "show", kind).stdout

    def test_an_unknown_one_names_the_nearest(self, run: Run) -> None:
        assert "Did you mean email?" in run("kinds", "show", "emial", status=1).stderr


class TestActions:
    def test_one_whose_effect_stays_here_is_performed_at_once(self, run: Run, folder: Path) -> None:
        result = run("actions", "test", "mail")
        (mail,) = (folder / "mail").glob("*.eml")
        assert "Welcome to Silver leaf" in mail.read_text()
        assert "done in" in result.stdout
        assert "subject = Welcome to Silver leaf" in result.stderr

    def test_one_that_reaches_out_needs_a_yes(self, run: Run) -> None:
        assert "Say --yes" in run("actions", "test", "stars", status=2).stderr
        result = run("actions", "test", "stars", "--yes", "--json")
        document = json.loads(result.stdout)
        assert document["outcome"] == "done"
        assert document["key"].startswith("test:evcus_")
        assert document["key"].endswith(":stars")
        assert document["text"] == f"3 stars, key {document['key']}"
        assert "token = (secret)" in result.stderr

    @pytest.mark.parametrize("form", ["envelope", "data"])
    def test_with_an_event_of_ones_own(self, run: Run, folder: Path, form: str) -> None:
        data = sample_data(tier="Jade leaf")
        document = envelope("customer.loyalty.tier.joined", data) if form == "envelope" else data
        (folder / "event.json").write_text(json.dumps(document))
        result = run("actions", "test", "mail", "--event", str(folder / "event.json"))
        assert "Welcome to Jade leaf" in result.stderr

    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            ("Later", "later"),
            ("Dead", "dead"),
            ("Skip", "skipped"),
            ("Halt", "the action would stop"),
            ("Unknown", "unknown"),
            ("Fault", "later"),
        ],
    )
    def test_what_would_become_of_the_job(self, run: Run, folder: Path, name: str, outcome: str) -> None:
        (folder / "event.json").write_text(json.dumps(sample_data(name=name)))
        result = run("actions", "test", "stars", "--event", str(folder / "event.json"), "--yes", status=1)
        assert result.stdout.startswith(f"{outcome} in ")

    def test_a_required_option_that_is_empty_skips(self, run: Run, folder: Path) -> None:
        (folder / "event.json").write_text(json.dumps(sample_data(email=None)))
        result = run("actions", "test", "mail", "--event", str(folder / "event.json"), status=1)
        assert "skipped" in result.stdout
        assert "option to is empty" in result.stdout

    @pytest.mark.parametrize("content", ["", "[]", "{", '"x"', '{"created_at": "soon"}'])
    def test_a_file_that_holds_no_event(self, run: Run, folder: Path, content: str) -> None:
        (folder / "event.json").write_text(content)
        assert (
            "Cannot read an event"
            in run("actions", "test", "mail", "--event", str(folder / "event.json"), status=1).stderr
        )

    def test_an_unknown_action_names_the_nearest(self, run: Run) -> None:
        assert "Did you mean mail?" in run("actions", "test", "mial", status=1).stderr


class TestCheck:
    def test_a_good_configuration(self, run: Run) -> None:
        document = json.loads(run("check", "--offline", "--json").stdout)
        (odd,) = [each for each in document["findings"] if each["level"] != "ok"]
        assert (odd["level"], odd["about"]) == ("warning", "actions.stars")
        assert 'once = ["customer", "tier"]' in odd["text"]  # it pays, and a customer can come back to a tier
        texts = [each["text"] for each in document["findings"] if each["about"] == "actions.mail"]
        assert texts[0] == "renders for customer.loyalty.tier.joined"
        assert "would be skipped for null email" in texts[1]
        assert run("check", "--offline").stdout.endswith("\n1 warning.\n")
        run("check", "--offline", "--fail-on", "warning", status=1)

    def test_a_template_that_no_event_can_bear(self, run: Run, folder: Path) -> None:
        path = folder / "tiercast.toml"
        path.write_text(path.read_text().replace('how = "', 'many = "{{ event.tier.name }}"\nhow = "'))
        result = run("check", "--offline", status=1)
        assert "actions.stars: would be dead for an ordinary event" in result.stdout
        assert "option many" in result.stdout

    def test_a_template_that_null_breaks_is_a_warning(self, run: Run, folder: Path) -> None:
        path = folder / "tiercast.toml"
        path.write_text(path.read_text().replace('how = "', 'many = "{{ 1 if event.customer else \'x\' }}"\nhow = "'))
        result = run("check", "--offline")
        assert "would be dead for null customer" in result.stdout
        assert "2 warnings." in result.stdout

    def test_a_wrong_configuration(self, run: Run, folder: Path) -> None:
        (folder / "tiercast.toml").write_text(CONFIG.replace('do = ["mail"', 'do = ["mial"'))
        result = run("check", "--offline", status=1)
        assert "mial" in result.stdout
        assert "mail" in result.stdout

    def test_a_wrong_setting(self, run: Run) -> None:
        assert "TIERCAST_LEASE" in run("check", "--offline", status=1, env={"TIERCAST_LEASE": "soon"}).stdout

    def test_marks_fall_back_where_the_encoding_has_none(self, run: Run, folder: Path) -> None:
        env = {"TIERCAST_CONFIG": str(folder / "tiercast.toml"), "FIRST_SECRET": "a" * 16, "SECOND_SECRET": "b" * 16}
        env |= {"STARS_TOKEN": "c"}
        result = CliRunner(env=env, charset="ascii").invoke(main, ["check", "--offline"])
        assert result.stdout.startswith("+ configuration")

    def test_a_queue_that_no_worker_hears(self) -> None:
        answers = {"worker@one": ["tiercast"], "worker@two": ["tiercast"]}
        found = list(_compare({"tiercast": [], "slow": ["mail"]}, answers))
        assert [(f.level, f.about) for f in found] == [("ok", "workers"), ("error", "queue slow")]
        assert "-n slow@%h -Q slow" in found[1].text  # a name that no worker of the machine has

    def test_no_worker_at_all(self) -> None:
        (finding,) = _compare({"tiercast": []}, {})
        assert (finding.level, finding.about) == ("warning", "workers")
