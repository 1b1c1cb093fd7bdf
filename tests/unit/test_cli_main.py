"""The command line as a whole: help, start-up, errors, and how things are printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tiercast.cli import COMMANDS, main
from tiercast.cli.group import LazyGroup
from tiercast.cli.output import Column, cut, list_as_json, plain, table
from tiercast.cli.times import Moment, iso, span
from tiercast.errors import TiercastError
from tiercast.up.environment import environment, local_environment


def every_command(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and group."""
    yield path
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for name in command.list_commands(ctx):
                inner = command.get_command(ctx, name)
                assert inner is not None
                yield from every_command(inner, (*path, name))


class TestHelp:
    @pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
    def test_every_command_teaches_by_example_in_80_columns(self, path: tuple[str, ...]) -> None:
        result = CliRunner().invoke(main, [*path, "--help"], prog_name="tiercast")
        assert result.exit_code == 0, result.output
        assert re.search(rf"(?m)^  Examples?:\n    tiercast {' '.join(path)}", result.output), result.output
        assert max(map(len, result.output.splitlines())) <= 80

    def test_the_list_of_commands_is_what_the_commands_say(self) -> None:
        with click.Context(main) as ctx:
            for name in COMMANDS:
                command = main.get_command(ctx, name)
                assert command is not None
                assert command.name == name

    def test_the_list_of_commands_loads_none_of_them(self) -> None:
        code = (
            "import sys\nfrom tiercast.cli import main\n"
            "try: main(['--help'])\nexcept SystemExit: pass\n"
            "print([name for name in ('redis', 'celery', 'jinja2', 'aiohttp', 'marshmallow') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"

    def test_version(self) -> None:
        for flag in ("-V", "--version"):
            assert re.fullmatch(r"tiercast \d+\.\d+\S*\n", CliRunner().invoke(main, [flag]).output)


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status", "said"),
        [
            (TiercastError("the remedy"), 1, "the remedy\n"),
            (KeyboardInterrupt(), 130, "\n"),
            (click.Abort(), 130, "\n"),
            (click.UsageError("wrong"), 2, "Error: wrong"),
        ],
    )
    def test_errors_become_messages_and_statuses(self, error: BaseException, status: int, said: str) -> None:
        @click.command()
        def fails() -> None:
            raise error

        group = LazyGroup("t", commands_at={})
        group.add_command(fails)

        result = CliRunner().invoke(group, ["fails"])

        assert result.exit_code == status
        assert said in result.stderr
        assert result.stdout == ""

    def test_a_reader_that_goes_away_is_no_traceback(self) -> None:
        command = [sys.executable, "-m", "tiercast.cli", "--help"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert b"Traceback" not in process.stderr.read()


class TestTables:
    COLUMNS = (
        Column(title="KEY", shrink="middle", least=10),
        Column(title="N", right=True),
        Column(title="WHY", shrink="end", least=6),
    )

    def test_columns_are_aligned_and_whole_where_there_is_room(self) -> None:
        rows = [("a", 1, "because"), ("bbbb", 20, None)]
        assert list(table(self.COLUMNS, rows, width=None)) == [
            "KEY    N  WHY",
            "a      1  because",
            "bbbb  20",
        ]

    def test_a_narrow_terminal_cuts_the_end_first_and_then_the_middle(self) -> None:
        rows = [("voucherify:evcus_0123456789:welcome-email", 1, "the server was busy")]
        lines = [click.unstyle(line) for line in table(self.COLUMNS, rows, width=40)]
        assert max(map(len, lines)) == 40
        assert lines[1].startswith("voucherify:evc")
        assert "…" in lines[1]
        assert "lcome-email  1" in lines[1]
        assert lines[1].endswith("the s…")

    def test_cut(self) -> None:
        assert cut("abcdefgh", 8) == "abcdefgh"
        assert cut("abcdefgh", 5) == "abcd…"
        assert cut("abcdefgh", 5, middle=True) == "ab…gh"
        assert cut("abcdefgh", 2, ellipsis="...") == ".."

    def test_control_characters_are_shown_as_such(self) -> None:
        assert plain("a\x1b[31m\r\nb\u202e") == "a\ufffd[31m\ufffd\ufffdb\ufffd"

    @pytest.mark.parametrize("items", [[], [{"a": 1}], [{"a": "ü\x1b"}, {"b": None}]])
    def test_a_listing_is_one_json_document(self, items: list[dict[str, object]]) -> None:
        @click.command()
        def prints() -> None:
            list_as_json("jobs", items)

        assert json.loads(CliRunner().invoke(prints).stdout) == {"jobs": items}

    def test_no_colour_unless_a_person_reads_it(self) -> None:
        (_, line) = table((Column(title="STATE"),), [("dead",)], width=80)
        assert click.unstyle(line) != line

        @click.command()
        def prints() -> None:
            click.echo(line)

        assert CliRunner().invoke(prints).stdout == "dead\n"


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259200), ("1w", 604800)]
    )
    def test_an_age(self, text: str, seconds: int) -> None:
        assert abs(Moment().convert(text, None, None) - (time.time() - seconds) * 1000) < 2000

    @pytest.mark.parametrize(
        "text", ["2026-08-14T09:30:00Z", "2026-08-14T11:30:00+02:00", "2026-08-14T09:30:00.000", "2026-08-14 09:30"]
    )
    def test_iso_8601(self, text: str) -> None:
        assert iso(Moment().convert(text, None, None)) == "2026-08-14T09:30:00.000Z"

    @pytest.mark.parametrize("text", ["", "yesterday", "2", "h", "-2h", "2 years", "2026-13-01"])
    def test_anything_else_names_what_is_allowed(self, text: str) -> None:
        with pytest.raises(click.BadParameter, match="2h"):
            Moment().convert(text, None, None)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(-1, "0s"), (8.9, "8s"), (119, "119s"), (900, "15m"), (90000, "25h"), (9 * 86400, "9d")]
    )
    def test_a_span_is_short(self, seconds: float, text: str) -> None:
        assert span(seconds) == text


class TestLocalEnvironment:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        lines = [
            "TIERCAST_REDIS_URL=redis://127.0.0.1:7777/0",
            "TIERCAST_WEBHOOK_SECRETS=a=b",
            "PATH=/evil",
            "nonsense",
        ]
        (tmp_path / "env").write_text("\n".join(lines) + "\n")
        return tmp_path

    def test_it_is_read_from_the_data_folder(self, folder: Path) -> None:
        assert local_environment({"TIERCAST_DATA": str(folder)}) == {
            "TIERCAST_REDIS_URL": "redis://127.0.0.1:7777/0",
            "TIERCAST_WEBHOOK_SECRETS": "a=b",
        }

    def test_without_a_running_up_there_is_none(self, tmp_path: Path) -> None:
        assert local_environment({"TIERCAST_DATA": str(tmp_path)}) == {}

    def test_what_is_set_already_wins(self, folder: Path) -> None:
        env = environment({"TIERCAST_DATA": str(folder), "TIERCAST_WEBHOOK_SECRETS": "mine", "TIERCAST_PREFIX": ""})
        assert env["TIERCAST_WEBHOOK_SECRETS"] == "mine"
        assert env["TIERCAST_REDIS_URL"] == "redis://127.0.0.1:7777/0"
        assert "PATH" not in env

    def test_another_ledger_stands_alone(self, folder: Path) -> None:
        env = {"TIERCAST_DATA": str(folder), "TIERCAST_REDIS_URL": "redis://elsewhere/0"}
        assert environment(env) == env

    def test_the_same_ledger_has_the_same_environment(self, folder: Path) -> None:
        env = {"TIERCAST_DATA": str(folder), "TIERCAST_REDIS_URL": "redis://127.0.0.1:7777/0"}
        assert environment(env)["TIERCAST_WEBHOOK_SECRETS"] == "a=b"


def test_a_wrong_command_names_the_nearest() -> None:
    result = CliRunner().invoke(main, ["jbos"])
    assert result.exit_code == 2
    assert "Did you mean jobs?" in result.stderr
