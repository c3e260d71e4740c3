"""Check what an owner asks for before it is stored, and fill in what is not said."""

import re
from collections.abc import Iterable, Sequence

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import ADDS, vo_of
from pilotage.voms.requests import make_request
from pilotage_server.jobs.limits import JobLimits
from pilotage_server.workload import JobSpec

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
LONGEST_PATTERN = 1024


def checked(spec: JobSpec, limits: JobLimits) -> JobSpec:
    """Return the specification with defaults, or raise JOB_SPEC_INVALID or JOB_TOO_LARGE."""
    _check_text(spec, limits)
    _check_environment(spec.environment, limits)
    _check_outputs(spec.outputs, limits)
    filled = msgspec.structs.replace(
        spec,
        cores=spec.cores or 1,
        wall_seconds=spec.wall_seconds or limits.default_wall_seconds,
        max_attempts=spec.max_attempts or limits.default_attempts,
        tags=tuple(sorted(set(spec.tags))),
        fqans=_checked_fqans(spec.fqans),
    )
    _check_sizes(filled, limits)
    return filled


def _wrong(message: str) -> Exception:
    return refuse(Reason.JOB_SPEC_INVALID, message)


def _clean(texts: Iterable[str], what: str) -> None:
    """Refuse what no argument vector, environment or path can hold."""
    for text in texts:
        if "\0" in text:
            raise _wrong(f"{what} holds a NUL character.")


def _check_text(spec: JobSpec, limits: JobLimits) -> None:
    if len(spec.name) > limits.name_characters or not spec.name.isprintable():
        raise _wrong(f"The name is longer than {limits.name_characters} characters or holds control characters.")
    if not spec.command or not spec.command[0]:
        raise _wrong("The command is empty.")
    _clean(spec.command, "The command")
    if len(spec.command) > limits.command_words:
        raise _wrong(f"The command has more than {limits.command_words} words.")
    if sum(len(word.encode()) + 1 for word in spec.command) > limits.command_bytes:
        raise _wrong(f"The command is longer than {limits.command_bytes} bytes.")
    if spec.input_sandbox and not DIGEST.fullmatch(spec.input_sandbox):
        raise _wrong("The input sandbox is not named by a SHA-256 in lower-case hex.")
    if spec.site and not WORD.fullmatch(spec.site):
        raise _wrong("The site's name is not 1 to 64 letters, digits or '_.:-'.")
    if len(spec.tags) > limits.tags or not all(WORD.fullmatch(tag) for tag in spec.tags):
        raise _wrong(f"There are more than {limits.tags} tags, or one is not 1 to 64 letters, digits or '_.:-'.")


def _checked_fqans(fqans: tuple[str, ...]) -> tuple[str, ...]:
    """Return the attributes that a job wants in their short spelling: what a VO's server can be asked for at once."""
    if not fqans:
        return ()
    try:
        request = make_request(vo_of(fqans[0]), fqans)
    except PilotageError as error:
        raise _wrong(f"The wanted attributes cannot be: {error.message}") from error
    if not WORD.fullmatch(ADDS + request.vo):
        raise _wrong(f"The VO's name {request.vo} is too long.")
    return request.fqans


def check_wish(spec: JobSpec, vos: Sequence[str]) -> None:
    """Raise JOB_SPEC_INVALID for attributes of a VO of which a credential that has some has none."""
    if spec.fqans and vos and vo_of(spec.fqans[0]) not in vos:
        has = ", ".join(vos)
        raise _wrong(f"The credential has attributes of {has}, to which {spec.fqans[0]} cannot be added.")


def _check_environment(environment: dict[str, str], limits: JobLimits) -> None:
    if len(environment) > limits.environment_entries:
        raise _wrong(f"The environment has more than {limits.environment_entries} entries.")
    if sum(len(name) + len(value.encode()) + 2 for name, value in environment.items()) > limits.environment_bytes:
        raise _wrong(f"The environment is longer than {limits.environment_bytes} bytes.")
    _clean(environment.values(), "The environment")
    for name in environment:
        if not VARIABLE.fullmatch(name):
            raise _wrong(f"{name!r} is no name of an environment variable.")
        if name.startswith("LD_"):
            raise _wrong(f"{name} is never given to a payload.")


def _check_outputs(outputs: tuple[str, ...], limits: JobLimits) -> None:
    if len(outputs) > limits.outputs:
        raise _wrong(f"There are more than {limits.outputs} output patterns.")
    _clean(outputs, "An output pattern")
    for pattern in outputs:
        if not pattern or len(pattern) > LONGEST_PATTERN:
            raise _wrong(f"An output pattern is empty or longer than {LONGEST_PATTERN} characters.")
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise _wrong(f"The output pattern {pattern!r} leads out of the work directory.")


def _check_sizes(spec: JobSpec, limits: JobLimits) -> None:
    for what, wanted, most in (
        ("cores", spec.cores, limits.cores),
        ("memory_bytes", spec.memory_bytes, limits.memory_bytes),
        ("disk_bytes", spec.disk_bytes, limits.disk_bytes),
        ("wall_time in seconds", spec.wall_seconds, limits.wall_seconds),
        ("max_attempts", spec.max_attempts, limits.max_attempts),
        ("priority", abs(spec.priority), limits.priority),
    ):
        if wanted > most:
            raise refuse(Reason.JOB_TOO_LARGE, f"The job asks for {what} = {wanted}; at most {most} is allowed.")
        if wanted < 0:
            raise _wrong(f"{what} is negative.")
