"""Programs, accounts, logs: what the site has installed."""

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from pilotage_helper.doctor.finding import Finding, broken, ok, weaker
from pilotage_helper.site import Site

KEEPER = "pilotage-keep"
LOG_ONLY = "pilotage-logonly"
MODES = {KEEPER: 0o700, LOG_ONLY: 0o711}
COMPANIONS = {
    KEEPER: "no run can begin: every one is refused (HELPER_SYSTEM)",
    "pilotage-verify": "no proxy can be verified: every run is refused (VERIFIER_FAILED)",
    "pilotage-map": "no owner can be mapped: every run is refused (MAPPER_FAILED)",
    "pilotage-sweep": "what runs leave is not deleted (CLEANUP_INCOMPLETE)",
    "pilotage-control": "signal and renew do not work",
    LOG_ONLY: "mode log-only does not work",
}


def wrong_with(path: Path, mode: int) -> str:
    """Return what keeps a program from being trusted, or nothing."""
    try:
        status = path.lstat()
    except OSError as error:
        return error.strerror or "missing"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_uid != 0:
        return "not root's"
    if stat.S_IMODE(status.st_mode) != mode:
        return f"mode {stat.S_IMODE(status.st_mode):04o}, not {mode:04o}"
    for folder in path.parents:
        above = folder.lstat()
        if above.st_uid != 0 or above.st_mode & 0o022:
            return f"{folder} can be changed by others than root"
    return ""


def mode(site: Site) -> Finding:
    """Tell whether payloads run as their owners."""
    if not site.log_only:
        return ok("mode", "switch: payloads run as their owners")
    means = "No payload is kept from the pilot's files and proxies, nor from another payload. Our pilots refuse this."
    return weaker("mode", "log-only: payloads run as whoever calls", means)


def programs(program: Path, libexec: Path, *, log_only: bool = False) -> Iterator[Finding]:
    """Look at the setuid program and those that it starts; mode log-only needs no setuid bit."""
    wrong = wrong_with(program, 0o4711)
    if log_only and not wrong_with(program, 0o755):
        yield ok(str(program), "root's, mode 0755: enough for mode log-only")
    elif wrong:
        means = "No payload can be run as another account. `make install-helper` puts it right."
        yield broken(str(program), wrong, means)
    elif os.statvfs(program).f_flag & os.ST_NOSUID:
        yield broken(str(program), "on a file system with nosuid", "The setuid bit has no effect (HELPER_PRIVILEGE).")
    else:
        yield ok(str(program), "root's, mode 4711, on a file system that honours it")
    for name, without in COMPANIONS.items():
        wrong = wrong_with(libexec / name, MODES.get(name, 0o755))
        text = f"{without[0].upper()}{without[1:]}."
        yield broken(str(libexec / name), wrong, text) if wrong else ok(str(libexec / name), "in place")


def said_by(*words: str) -> list[str]:
    """Return the lines that a program prints, none when it cannot be asked."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False, env={})
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def cryptography(libexec: Path, openssl: str = "/usr/bin/openssl") -> Iterator[Finding]:
    """Compare the OpenSSL that the verifier holds with the machine's: a fix of that does not reach a linked-in one."""
    subject = "verifier's OpenSSL"
    own = said_by(str(libexec / "pilotage-verify"), "--version")
    installed = said_by(openssl, "version", "-v", "-b")
    if not own or not installed:
        yield weaker(subject, "cannot be compared with the machine's", f"Either it or {openssl} does not answer.")
    elif installed[0].endswith(f"(Library: {own[0]})") and own[1:] == installed[1:]:
        yield ok(subject, f"{own[0]}, the machine's own")
    else:
        found = f"{own[0]}, {own[-1]}; the machine has {installed[0].partition(' (')[0]}, {installed[-1]}"
        yield weaker(subject, found, "A fix of OpenSSL is not in the verifier: build and install the helper anew.")


def matches(bounds: str, name: str) -> bool:
    """Tell whether an account is among a caller's, as the helper reads them."""
    words = bounds.replace(",", " ").split()
    return any(fnmatchcase(name, word) if word.endswith("*") else word == name for word in words)


def accounts(site: Site) -> Iterator[Finding]:
    """Look at the verifier's account, the callers', and those that payloads may become."""
    everybody = pwd.getpwall()
    known = {entry.pw_name: entry for entry in everybody}
    verifier = known.get(site.verify_user)
    if verifier is None or verifier.pw_uid == 0:
        yield broken("verify_user", f"{site.verify_user} is no account of its own", "Every run is refused.")
    else:
        yield ok("verify_user", f"{site.verify_user}, uid {verifier.pw_uid}")
    if not site.callers:
        yield broken("callers", "the configuration has no [caller]", "Nobody may call the helper.")
    for caller in site.callers:
        subject = f"caller {caller.name}"
        if caller.name not in known and not caller.name.isdigit():
            yield broken(subject, "not in the user database here", "It cannot call: its uid has no such name.")
            continue
        within = [entry for entry in everybody if matches(caller.accounts, entry.pw_name)]
        usable = [entry for entry in within if entry.pw_uid >= site.min_uid and entry.pw_gid >= site.min_gid]
        homeless = [entry.pw_name for entry in usable if not Path(entry.pw_dir).is_dir()]
        if not usable:
            means = "Accounts that the user database does not list in whole may exist all the same."
            yield weaker(subject, f"no account is within {caller.accounts!r} and min_uid {site.min_uid}", means)
        elif homeless:
            means = "Runs on these accounts are refused (HOME_UNUSABLE)."
            yield broken(subject, f"without a home: {', '.join(homeless[:8])}", means)
        else:
            yield ok(subject, f"{len(usable)} accounts, e.g. {usable[0].pw_name}, have homes")


def audit(site: Site, socket: Path = Path("/dev/log")) -> Finding:
    """Tell whether there is a log to write to."""
    file = site.demands.audit_file
    if file is not None:
        folder = file.parent
        if folder.is_dir() and folder.lstat().st_uid == 0 and not folder.lstat().st_mode & 0o022:
            return ok("audit", str(file))
        return broken("audit", f"{folder} is missing or can be changed by others", "Every run is refused.")
    if socket.is_socket():
        return ok("audit", f"the log daemon at {socket}")
    return broken("audit", f"no log daemon listens on {socket}", "Every run is refused (AUDIT_UNAVAILABLE).")
