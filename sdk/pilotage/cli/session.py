"""What every command shares: configuration, connection, and how errors leave the program.

Nothing here imports gRPC before a command really speaks to a server, so that `--help` and usage
errors take no time.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

if TYPE_CHECKING:
    from pilotage.client import Client
    from pilotage.config import Config
    from pilotage.x509.files import LocalIdentity

P = ParamSpec("P")
R = TypeVar("R")
INTERRUPTED = 130


class Refusal(click.ClickException):
    """A `PilotageError` on its way to the terminal: one line, and the exit code of its reason."""

    def __init__(self, error: PilotageError) -> None:
        super().__init__(f"{error.reason.name}: {one_line(error.message)}")
        self.exit_code = error.exit_code  # type: ignore[misc,unused-ignore]  # some of click's types say class variable

    def show(self, file: IO[str] | None = None) -> None:
        """Print the line."""
        click.echo(f"pilotage: {self.message}", file=file or sys.stderr)


class Group(click.Group):
    """A group whose commands end with Pilotage's exit codes."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; turn its errors into exit codes."""
        try:
            return super().invoke(ctx)
        except PilotageError as error:
            raise Refusal(error) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            # A file of the user's; what came over the network has an error of our own already.
            if error.filename is None:
                unwritten(error)
                ctx.exit(1)
            raise Refusal(refuse(Reason.INVALID_ARGUMENT, f"{error.filename}: {error.strerror or error}.")) from error
        except KeyboardInterrupt:
            say("interrupted")
            ctx.exit(INTERRUPTED)


class Session:
    """The options before the command, and what follows from them."""

    def __init__(self, server: str | None, certificates: Path | None) -> None:
        self.server = server
        self.certificates = certificates

    @functools.cached_property
    def config(self) -> "Config":
        """Return the configuration, read once."""
        from pilotage.config import load_config

        return load_config(os.environ)

    @property
    def ca_dir(self) -> Path:
        """Return the directory of the authorities that this command believes."""
        from pilotage.trust import find_ca_dir

        return self.certificates or self.config.ca_dir or find_ca_dir(os.environ)

    def connect(self, identity: "LocalIdentity | None" = None) -> "Client":
        """Open the client of this command, of the usual identity or of this one."""
        server = self.server or self.config.server
        if not server:
            raise click.UsageError(
                "No server is named: give -s HOST[:PORT], set PILOTAGE_SERVER, "
                'or write server = "HOST" into ~/.config/pilotage/config.toml.'
            )
        from pilotage.client import Client

        return Client(
            server,
            ca_dir=self.certificates or self.config.ca_dir,
            audience=self.config.audience,
            identity=identity,
            say=say,
            ask=ask_passphrase,
        )


def connected(command: Callable[Concatenate[Session, P], R]) -> Callable[..., R]:
    """Give a command the session; it takes --server and --certificates as the group does."""

    @click.option("-s", "--server", metavar="HOST[:PORT]", help="Server to speak to (PILOTAGE_SERVER).")
    @click.option(
        "--certificates", type=click.Path(path_type=Path), metavar="DIR", help="CA directory (X509_CERT_DIR)."
    )
    @click.pass_context
    @functools.wraps(command)
    # The other options are the command's own; click hands them over by name.
    def run(ctx: click.Context, /, *, server: str | None, certificates: Path | None, **options: Any) -> R:
        outer = ctx.find_object(Session) or Session(None, None)
        session = Session(server or outer.server, certificates or outer.certificates)
        return command(session, **options)  # type: ignore[call-arg]  # what P names is in the options

    return run


def ask_passphrase(path: Path) -> Secret:
    """Ask the person at the terminal for the pass phrase of a file."""
    return ask_secret(
        f"Pass phrase of {path}",
        refuse(Reason.IDENTITY_FILE_UNUSABLE, f"{path}: it is encrypted, and no pass phrase was given."),
    )


def ask_secret(question: str, without: PilotageError) -> Secret:
    """Ask the person at the terminal for something that is not shown; raise `without` where there is no answer."""
    try:
        return Secret(click.prompt(one_line(question), hide_input=True, err=True))
    except click.Abort as error:
        raise without from error


def say(text: str) -> None:
    """Tell the person at the terminal something; stdout is for results alone."""
    click.echo(f"pilotage: {one_line(text)}", err=True)


def unwritten(error: OSError) -> None:
    """Tell that standard output, or a temporary file on the way to it, is full or gone."""
    say(f"the answer cannot be written ({error.strerror or error})")


def one_line(text: str) -> str:
    """Return text without line breaks and terminal controls."""
    return "".join(character if character.isprintable() else " " for character in text)
