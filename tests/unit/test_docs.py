"""What the pages say is so: commands, settings, configurations, links, promises."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tiercast.actions import Action
from tiercast.cli import main
from tiercast.config import load_config
from tiercast.config.kinds import find_kinds, load_kind
from tiercast.config.load import Common
from tiercast.config.model import ActionSpec
from tiercast.ledger.model import DeliveryState, JobState
from tiercast.settings import VARIABLES, load_settings
from worker.execution.drain import CLAIM_MAX_JOBS
from worker.execution.events import CACHE_MAX_BYTES
from worker.execution.sizing import AHEAD_MAX_JOBS
from worker.execution.window import MAX_CALLS, MAX_THREADS, PROBE_SECONDS, START_CALLS, START_THREADS
from worker.intake.drain import BATCH_DELIVERIES
from worker.supervision.heartbeat import LAST_SECONDS, STUCK_STATUS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

#: Variables that are not ours, or are the shell's.
_OTHERS = {"PORT", "WEB_CONCURRENCY", "WORKER_QUEUES", "FLOWER_BASIC_AUTH", "FLOWER_ADDRESS", "FLOWER_PORT"}

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[str]:
    """The code blocks of a page in a language, without their indentation."""
    for indent, named, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if named == language:
            yield "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def spans(page: Path) -> list[str]:
    """The code within a page's sentences."""
    return re.findall(r"`([^`]+)`", _FENCE.sub("", page.read_text(encoding="utf-8")).replace("\n", " "))


def shell_lines() -> list[tuple[str, str]]:
    """The lines of all shell blocks, with the page's name."""
    return [
        (page.name, line.strip())
        for page in PAGES
        for text in blocks(page, "sh")
        for line in text.splitlines()
        if line.strip()
    ]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows of a text, heads and rules left out."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [
        row for i, row in enumerate(found) if not _is_rule(row) and not (i + 1 < len(found) and _is_rule(found[i + 1]))
    ]


def _is_rule(row: list[str]) -> bool:
    return all(set(cell) <= {"-", ":"} for cell in row)


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    _, _, rest = text.partition(f"{title}\n")
    assert rest, f"there is no heading {title}"
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def named(text: str) -> dict[str, list[str]]:
    """Table rows by the code in their first cell."""
    return {row[0].strip("`"): row for row in rows(text) if row[0].startswith("`")}


# --- commands


def _command(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = main
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize(("page", "line"), [each for each in shell_lines() if each[1].startswith("tiercast ")])
def test_commands_in_blocks_can_be_called_so(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "body.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    command, words = _command(shlex.split(line)[1:])
    # click keeps the help option of a command that was made first: as under `tiercast`, for the tests that follow.
    command.make_context(command.name, words, **main.context_settings).close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_sentences_exist_with_their_options(page: Path) -> None:
    for span in spans(page):
        if not span.startswith("tiercast "):
            continue
        command, words = _command([word for word in shlex.split(span)[1:] if not word.isupper()])
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, span


def test_make_has_every_target_that_is_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = [line for _, line in shell_lines()] + [span for page in PAGES for span in spans(page)]
    used = {line.split()[1] for line in said if line.startswith("make ")}
    assert {"run", "test", "lint"} <= used <= targets


def test_other_commands_name_what_there_is() -> None:
    for page, line in shell_lines():
        program, *words = line.split()
        known = {
            "tiercast",
            "make",
            "cd",
            "cp",
            "celery",
            "pip",
            "pytest",
            ".",
            ".venv/bin/python",
            "sqlite3",
            "pg_dump",
        }
        assert program in known, f"{page}: {line}"
        if program == "cp":
            assert (ROOT / words[0]).is_file(), line


# --- settings


def test_every_variable_is_in_the_table_and_the_other_way_round() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for room in ("tiercast", "receiver", "worker")
        for path in (ROOT / room).rglob("*.py")
    )
    ours = set(re.findall(r'"(TIERCAST_[A-Z_]*[A-Z])"', code))
    assert set(named(section(CONFIGURATION, "## Environment"))) == ours


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_variables_that_there_are(page: Path) -> None:
    known = {*named(section(CONFIGURATION, "## Environment")), "TIERCAST_TEST_SERVER"}  # conftest.py reads it
    assert set(re.findall(r"\bTIERCAST_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))) <= known


def test_other_variables_are_explained() -> None:
    assert set(re.findall(r"`([A-Z]+_?[A-Z_]*)`", CONFIGURATION)) - {"GET"} >= _OTHERS


def test_the_defaults_of_variables_are_as_said() -> None:
    settings = load_settings({})
    table = named(section(CONFIGURATION, "## Environment"))
    checked = 0
    for name, row in table.items():
        value = getattr(settings, name.removeprefix("TIERCAST_").lower(), None)
        if isinstance(value, str | int | float) and name != "TIERCAST_BROKER_URL":
            said = row[1].strip("`")
            assert said == (f"{value:g}" if isinstance(value, float) else str(value)), name
            checked += 1
    assert checked >= 10


def test_the_keys_of_every_action_are_in_the_table_with_their_defaults() -> None:
    table = named(section(CONFIGURATION, "### `[actions.NAME]`"))
    assert set(table) == set(Common().fields)
    defaults = {name: field.default for name, field in ActionSpec.__dataclass_fields__.items()}
    for name, row in table.items():
        if isinstance(default := defaults.get(name), int | float):
            assert row[1] == f"{default:g}", name


@pytest.mark.parametrize("kind", sorted(find_kinds()))
def test_the_options_of_every_kind_are_in_its_table(kind: str) -> None:
    if not find_kinds()[kind].value.startswith("worker."):
        pytest.skip("a plug-in that is installed here")
    table = named(section(CONFIGURATION, f"### Kind `{kind}`"))
    schema = load_kind(kind).Options()
    fields = {field.data_key or name: field for name, field in schema.fields.items()}
    assert set(table) == set(fields)
    assert {name for name, row in table.items() if row[1] == "required"} == {
        name for name, field in fields.items() if field.required
    }


def test_the_sections_of_the_file_have_their_keys() -> None:
    assert set(named(section(CONFIGURATION, "### `[sources.NAME]`"))) == {"event", "project", "secrets"}
    assert set(named(section(CONFIGURATION, "### `[limits.NAME]`"))) == {"rate"}
    assert set(named(section(CONFIGURATION, "### `[[rules]]`"))) == {"name", "on", "when", "do"}


def test_the_fields_of_an_event_are_in_the_table() -> None:
    table = named(section(CONFIGURATION, "## Templates and conditions"))
    tiers = ["tier", "previous_tier", "holder_loyalty_tier"]
    fields = ["id", "type", "at", "source", "customer", "campaign", *tiers, "data"]
    assert list(table) == [f"event.{name}" for name in fields]


#: Of the pool's processes. Importing worker.celery would make its app.
GRACE_SECONDS = float(
    re.findall(
        r"^GRACE_SECONDS = ([0-9.]+)$", (ROOT / "worker" / "celery.py").read_text(encoding="utf-8"), re.MULTILINE
    )[0]
)
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "title", "numbers"),
    [
        (
            CONFIGURATION,
            "### How many calls at once",
            [START_CALLS, MAX_CALLS, START_THREADS, MAX_THREADS, PROBE_SECONDS],
        ),
        (
            OPERATING,
            "### How much a process takes on",
            [START_CALLS, MAX_CALLS, START_THREADS, MAX_THREADS, AHEAD_MAX_JOBS, CLAIM_MAX_JOBS, BATCH_DELIVERIES],
        ),
        (OPERATING, "### How much a process takes on", [CACHE_MAX_BYTES / 2**20]),
        (OPERATING, "### A job that hangs", [LAST_SECONDS, STUCK_STATUS]),
        (OPERATING, "### Stopping", [GRACE_SECONDS]),
    ],
)
def test_the_bounds_of_a_process_are_as_said(text: str, title: str, numbers: list[float]) -> None:
    said = re.findall(r"[0-9][0-9,]*", section(text, title))
    assert not {f"{number:,g}" for number in numbers} - {number.rstrip(",") for number in said}


# --- configurations


def configurations() -> Iterator[tuple[str, str]]:
    """Every configuration that a page or an example shows."""
    for page in PAGES:
        for number, text in enumerate(blocks(page, "toml")):
            if "project" not in tomllib.loads(text):
                yield f"{page.name}-{number}", text
    for path in [*(ROOT / "examples").rglob("*.toml"), *ROOT.glob("tiercast.example.toml")]:
        if path.name != "pyproject.toml":
            yield path.name, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in configurations()])
def test_configurations_load(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the secrets that it names, and the example's kind without installing it
    for name in re.findall(r'"env:(\w+)"', text):
        monkeypatch.setenv(name, "a-secret-of-tests")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "stars"))
    path = tmp_path / "tiercast.toml"
    path.write_text(text.replace('kind = "stars"', 'kind = "tiercast_stars:GrantStars"'), encoding="utf-8")

    # When it is read, then nothing is wrong with it
    config = load_config(
        load_settings({"TIERCAST_CONFIG": str(path), "TIERCAST_WEBHOOK_SECRETS": "another-secret-of-tests"})
    )

    said = tomllib.loads(text)
    assert set(config.actions) == set(said.get("actions", {}))
    assert len(config.rules) == len(said.get("rules", []))
    assert all(issubclass(spec.cls, Action) for spec in config.actions.values())


def test_the_first_configuration_has_20_lines_with_hubspot_and_email() -> None:
    first = next(blocks(ROOT / "README.md", "toml"))
    assert len([line for line in first.splitlines() if line.strip()]) <= 20
    assert {action["kind"] for action in tomllib.loads(first)["actions"].values()} == {"hubspot", "email"}


# --- the pages themselves


def test_the_first_screen_is_in_plain_words() -> None:
    screen = README.partition("\n## ")[0]
    assert not re.findall(r"\b(?:bells?|lanes?|ledgers?)\b", screen, re.IGNORECASE)
    assert "cd tiercast\nmake run\n" in screen


def test_the_terminal_looks_as_the_readme_shows() -> None:
    (shown,) = blocks(ROOT / "README.md", "text")
    code = "".join(path.read_text() for path in (ROOT / "tiercast" / "up").glob("*.py"))
    sentences = [line for line in shown.splitlines() if line.endswith((":", ".")) and not line[:1].isspace()]
    assert len(sentences) >= 4
    for sentence in sentences:
        assert sentence in code or re.match(r"Tiercast [0-9.]+ is up\.", sentence), sentence


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in slugs(linked), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    missing = [page for page in pages if page != "index.md" and f"({page})" not in index]
    assert not missing


def test_the_states_are_those_of_the_ledger() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    last = index[index.index("A delivery is `queued`") :]
    assert set(re.findall(r"`(\w+)`", last)) == {*map(str, DeliveryState), *map(str, JobState)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"`([\w/]+\.py)::(test_\w+)`", text)
    for path, test in found:
        assert re.search(rf"def {test}\(", (ROOT / "tests" / path).read_text(encoding="utf-8")), test
    for test in re.findall(r"`(test_\w+)`", text):
        assert any(f"def {test}(" in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")), test
    assert page.name != "how-it-works.md" or len(found) >= 20


def test_the_variables_are_those_of_the_table() -> None:
    """One that is missing in the code is called unknown at every start, though it works."""
    table = {row[0].strip("`") for row in rows(section(CONFIGURATION, "## Environment")) if row[0].startswith("`TIER")}
    assert table == VARIABLES


# --- the map of the code


def _defines(path: Path, name: str) -> bool:
    """Whether a file defines each part of a dotted name: a class, function or variable, in Python or Lua."""
    text = path.read_text(encoding="utf-8")
    return all(
        re.search(
            rf"^\s*(?:(?:async )?def|class|local function|function|local) {part}\b|^{part}\b.*=", text, re.MULTILINE
        )
        for part in name.split(".")
    )


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_the_map_names_exist_and_define_what_it_says(page: str) -> None:
    named_files = 0
    for span in spans(ROOT / page):
        path, _, name = span.partition("::")
        if (
            not re.fullmatch(r"(?:tiercast|receiver|worker|tests|bench)/[\w/.-]*", path)
            or "KIND" in path
            or "NAME" in path
        ):
            continue
        named_files += 1
        assert (ROOT / path).exists(), span
        assert not name or _defines(ROOT / path, name), span
    assert named_files >= 10


def test_every_module_of_the_worker_is_on_the_map() -> None:
    rooms = section((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "## Rooms")
    folder = ROOT / "worker"
    loose = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    inner = {path.stem for path in folder.glob("*/*.py") if path.parent.name != "actions"}
    assert not {name for name in (loose | inner) - {"__init__"} if not re.search(rf"\b{name}\b", rooms)}


def test_the_diagrams_have_every_state() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for title, states in (("## States of a job", JobState), ("## States of a delivery", DeliveryState)):
        picture = section(text, title)
        mermaid, ascii_ = re.findall(r"```(?:mermaid|text)\n(.*?)```", picture, re.DOTALL)
        for state in states:
            assert re.search(rf"\b{state}\b", mermaid), state
            assert re.search(rf"\b{state}\b", ascii_), state


def test_the_tables_of_states_are_those_of_the_ledger() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for title, states in (("## States of a job", JobState), ("## States of a delivery", DeliveryState)):
        shown = [
            (name.strip("`"), meaning, *(mark == "yes" for mark in marks), verbs)
            for name, meaning, *marks, verbs in rows(section(text, title))
        ]
        assert shown == [
            (s, s.meaning, s.final, s.filed, s.needs_operator, s.indexed, ", ".join(s.traits.verbs)) for s in states
        ]


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w.-]+", text) for text in project["dependencies"]]
    table = {row[0] for row in rows((ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8"))}
    assert {match[0] for match in names if match} == table
