"""The command line by itself: usage, configuration, sizes and times, what it imports."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import pilotage
from pilotage.cli.commands import cli
from pilotage.cli.render import document, span
from pilotage.cli.session import one_line
from pilotage.cli.units import parse_size, parse_span
from pilotage.config import Config, load_config
from pilotage.errors import ConfigError, RequestError
from pilotage.sandbox import gather

COMMANDS = (
    "submit",
    "ls",
    "show",
    "wait",
    "logs",
    "fetch",
    "cancel",
    "events",
    "whoami",
    "doctor",
    "credential",
    "link",
    "admin",
)


def run(*words: str, **environ: str) -> Result:
    """Run a command without home, server or proxy."""
    cleared = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "PILOTAGE_SERVER", "PILOTAGE_CONFIG", "X509_USER_PROXY"))
    return CliRunner().invoke(cli, words, env={**cleared, **environ})


@pytest.mark.parametrize("words", [("--help",), *((name, "--help") for name in COMMANDS)])
def test_every_help_begins_with_examples(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 0
    assert "pilotage " in result.stdout.split("Options:")[0].split("Example", 1)[1]


def test_the_exit_codes_are_in_the_help() -> None:
    assert "6 a waited-for job did not succeed" in run("-h").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("ls", "--no-such-option"),
        ("ls",),
        ("show",),
        ("submit",),
        ("submit", "--mem", "lots", "--", "x"),
        ("submit", "--time", "soon", "--", "x"),
        ("submit", "--env", "=x", "--", "x"),
        ("submit", "--env", "novalue", "--", "x"),
        ("submit", "-n", "0", "--", "x"),
        ("submit", "--input", "/no/such/file", "--", "x"),
        ("submit", "--", "./no-such-program"),
        ("submit", "--", "../no-such-program"),
        ("wait", "JOB", "--timeout", "soon"),
        ("credential", "delegate", "--hours", "0"),
    ],
)
def test_a_usage_error_ends_with_2_and_speaks_on_stderr(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr


def test_an_untrusting_client_ends_with_4(tmp_path: Path) -> None:
    result = run("-s", "localhost:1", "ls", X509_CERT_DIR=str(tmp_path / "absent"))
    assert result.exit_code == 4
    assert result.stderr.startswith("pilotage: CA_DIRECTORY_UNUSABLE: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_wrong_address_ends_with_2(tmp_path: Path) -> None:
    result = run("ls", "-s", "http://x", X509_CERT_DIR=str(tmp_path))
    assert result.exit_code == 2
    assert "CONFIG_INVALID" in result.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4 * 2**30),
        ("500M", 500 * 2**20),
        ("500", 500 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("8k", 8192),
        ("1tb", 2**40),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("10", 600),
        ("1:30", 90),
        ("1:30:00", 5400),
        ("2-12:00", 2 * 86400 + 43200),
        ("1.5h", 5400),
    ],
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "4 apples", "1:2:3:4", "\u0661"])
def test_other_sizes_and_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)
    with pytest.raises(ValueError, match="no time"):
        parse_span(text)


def test_the_configuration_is_file_then_environment(tmp_path: Path) -> None:
    assert load_config({}) == Config()
    (tmp_path / "pilotage").mkdir()
    file = tmp_path / "pilotage" / "config.toml"
    file.write_text('server = "one"\n[submit]\nsite = "CERN"\ncores = 2\n[credential]\nkey = "ec"\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert load_config(environ).server == "one"
    assert load_config(environ).credential.key == "ec"
    environ |= {
        "PILOTAGE_SERVER": "two",
        "PILOTAGE_SUBMIT__CORES": "8",
        "PILOTAGE_SUBMIT__TAGS": "a,b",
        "PILOTAGE_JOB_ID": "x",
    }
    config = load_config(environ)
    assert (config.server, config.submit.site, config.submit.cores, config.submit.tags) == (
        "two",
        "CERN",
        8,
        ("a", "b"),
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("server = 1", "$.server"),
        ("[submit]\ncores = 'many'", "$.submit.cores"),
        ("[submit]\ncolour = 1", "colour"),
        ("[credential]\nkey = 'dsa'", "$.credential.key"),
        ("not toml", "not TOML"),
    ],
)
def test_a_wrong_configuration_names_its_place(text: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config({"PILOTAGE_CONFIG": str(file)})
    assert place in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.exit_code == 2


def test_a_wrong_variable_names_its_place(tmp_path: Path) -> None:
    for environ in ({"PILOTAGE_SUBMIT__CORES": "many"}, {"PILOTAGE_SUBMITT__CORES": "1"}):
        with pytest.raises(ConfigError):
            load_config(environ)
    with pytest.raises(ConfigError):
        load_config({"PILOTAGE_CONFIG": str(tmp_path / "absent.toml")})


def test_inputs_are_named_as_the_user_sees_them(tmp_path: Path) -> None:
    here, away = tmp_path / "here", tmp_path / "away"
    (here / "sub").mkdir(parents=True)
    away.mkdir()
    for path in (here / "run.sh", here / "sub" / "data", away / "extra", away / "run.sh"):
        path.write_text(path.name)
    members = gather([here / "run.sh", here / "sub", away / "extra"], here)
    assert sorted(members) == ["extra", "run.sh", "sub", "sub/data"]
    with pytest.raises(RequestError, match=r"would both be run\.sh"):
        gather([here / "run.sh", away / "run.sh"], here)
    assert sorted(gather([here], here)) == [".", "run.sh", "sub", "sub/data"]


def test_a_hostile_text_cannot_move_the_cursor() -> None:
    assert one_line("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"


def test_values_have_a_json_form() -> None:
    assert document({"a": (1, None, True)}) == {"a": [1, None, True]}
    with pytest.raises(TypeError):
        document(object())
    assert span(2.5) == "2.5 s"
    assert span(3661) == "1:01:01"


def test_help_needs_neither_grpc_nor_cryptography() -> None:
    sdk = str(Path(pilotage.__file__).parents[1])
    program = (
        "import sys, pilotage.cli.commands\nprint([m for m in ('grpc', 'cryptography', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": sdk},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_sdk_needs_nothing_of_the_server() -> None:
    sdk = str(Path(pilotage.__file__).parents[1])
    program = (
        "import sys, pilotage.client, pilotage.aio\n"
        "heavy = ('sqlalchemy', 'alembic', 'uvloop', 'pilotage_server', 'pilotage_helper')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": sdk},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_thread_that_fails_beside_a_command_says_nothing_on_the_terminal() -> None:
    """As one of gRPC's did now and then, when Ctrl-C ended a call."""
    program = (
        "import threading\nfrom pilotage.cli import commands, main\n"
        "def act(**_):\n    thread = threading.Thread(target=lambda: 1 / 0)\n    thread.start()\n    thread.join()\n"
        "    return 7\n"
        "commands.cli.main = act\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
