"""The demo's folders, toy grid and configuration files, all below one root-owned prefix."""

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from toygrid import Identity, ToyGrid

from journey import accounts

GIB = 1024**3
PORTS = (7643, 7644)
SLOTS = 2

SERVER_CONFIG = """\
[server]
state_dir = "{state}"
listen = "127.0.0.1:{port}"
listen_mutual = "127.0.0.1:{mutual_port}"
audience = "pilotage://localhost:{port}"
host_cert = "{host_cert}"
host_key = "{host_key}"
ca_dir = "{ca_dir}"
voms_dir = "{voms_dir}"
log = "json"

[roles]
pilot = ["/demo/Role=pilot"]
owner = ["/demo/Role=analysis"]
admin = ["/O=Toy Grid/CN=admin"]
"""

PILOT_CONFIG = """\
server = "localhost:{port}"
ca_dir = "{ca_dir}"
proxy = "{proxy}"
site = "TOY"
slots = {slots}
workdir = "{workdir}"
helper = "{helper}"
wrapper = "{wrapper}"
python = "/usr/bin/python3"
switch = "required"
"""

HELPER_CONFIG = """\
[helper]
ca_dir = {ca_dir}
voms_dir = {voms_dir}
verify_user = {verifier}
min_uid = 1000
min_gid = 1000
audit_file = {audit}
syslog = no

[map]
grid_mapfile = {mapfile}
gridmapdir = {gridmapdir}

[caller {pilot}]
vos = demo
fqans = /demo/Role=analysis
accounts = demo*
"""


@dataclass(frozen=True)
class World:
    """Where everything of one demo lies."""

    prefix: Path
    port: int
    mutual_port: int

    @property
    def homes(self) -> Path:
        """Homes of all the demo's accounts."""
        return self.prefix / "home"

    @property
    def grid(self) -> Path:
        """The toy grid's folder."""
        return self.prefix / "grid"

    @property
    def server(self) -> Path:
        """The server's folder: its configuration, host certificate and state."""
        return self.prefix / "server"

    @property
    def pilot(self) -> Path:
        """The pilot's folder: its configuration, proxy and working directory."""
        return self.prefix / "pilot"

    @property
    def logs(self) -> Path:
        """Logs of server, pilot and helper."""
        return self.prefix / "log"

    @property
    def monitor(self) -> Path:
        """Where the monitoring robot keeps `cert.pem` and `key.pem`, for the mutual-TLS port."""
        return self.grid / "monitor"

    def command(self, name: str) -> str:
        """Return the path of an installed program."""
        return str(self.prefix / "venv" / "bin" / name)

    def environ(self) -> dict[str, str]:
        """Return what an owner's environment needs to use this grid."""
        return {
            "PATH": f"{self.prefix}/venv/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "X509_CERT_DIR": str(self.grid / "certificates"),
            "X509_VOMS_DIR": str(self.grid / "vomsdir"),
            "PILOTAGE_SERVER": f"localhost:{self.port}",
        }


def user_proxy(name: str) -> Path:
    """Return where grid tools look for a user's proxy."""
    return Path(f"/tmp/x509up_u{accounts.uid(name)}")


def make(world: World) -> dict[str, str]:
    """Make the grid and every configuration file anew; return the owners' subjects by account name."""
    for folder in (world.grid, world.server, world.pilot, world.logs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
    grid = ToyGrid(world.grid)
    make_mapping(world)
    make_server(world, grid.host("localhost", addresses=("127.0.0.1", "::1")))
    make_pilot(world, grid)
    make_monitor(world, grid.robot("Robot - monitor"))
    dns = {}
    for name in accounts.OWNERS:
        owner = grid.user(name)
        proxy = user_proxy(name)
        proxy.unlink(missing_ok=True)
        grid.voms_proxy(owner, proxy, fqans=("/demo/Role=analysis", "/demo"))
        accounts.give(proxy, name, 0o600)
        dns[name] = owner.dn
    write(world.prefix / "as", AS.format(homes=world.homes, environ=shell_words(world.environ())), 0o755)
    return dns


def make_mapping(world: World) -> None:
    """Map the analysis role to the pool, one file an account in the gridmapdir."""
    write(world.grid / "grid-mapfile", '"/demo/Role=analysis" .demo\n')
    gridmapdir = world.grid / "gridmapdir"
    gridmapdir.mkdir(mode=0o755)
    for name in accounts.POOL:
        write(gridmapdir / name, "")
    values = {
        "ca_dir": world.grid / "certificates",
        "voms_dir": world.grid / "vomsdir",
        "mapfile": world.grid / "grid-mapfile",
        "gridmapdir": gridmapdir,
        "verifier": accounts.VERIFIER,
        "audit": world.logs / "helper.jsonl",
        "pilot": accounts.PILOT,
    }
    write(world.prefix / "etc" / "helper.conf", HELPER_CONFIG.format(**values))


def make_server(world: World, host: Identity) -> None:
    """Give the server's account its host certificate, key and configuration."""
    accounts.give(world.server, accounts.SERVER, 0o700)
    for source, name, mode in ((host.cert_path, "hostcert.pem", 0o444), (host.key_path, "hostkey.pem", 0o400)):
        target = world.server / name
        shutil.copyfile(source, target)
        accounts.give(target, accounts.SERVER, mode)
    state = world.server / "state"
    state.mkdir(mode=0o700)
    accounts.give(state, accounts.SERVER)
    text = SERVER_CONFIG.format(
        state=state,
        port=world.port,
        mutual_port=world.mutual_port,
        host_cert=world.server / "hostcert.pem",
        host_key=world.server / "hostkey.pem",
        ca_dir=world.grid / "certificates",
        voms_dir=world.grid / "vomsdir",
    )
    write(world.server / "server.toml", text)


def make_pilot(world: World, grid: ToyGrid) -> None:
    """Give the pilot's account a robot's proxy with the pilot role, and its configuration."""
    accounts.give(world.pilot, accounts.PILOT, 0o700)
    workdir = world.pilot / "work"
    workdir.mkdir(mode=0o700)
    accounts.give(workdir, accounts.PILOT)
    proxy = grid.voms_proxy(
        grid.robot("Robot - pilot factory"), world.pilot / "proxy.pem", fqans=("/demo/Role=pilot", "/demo")
    )
    accounts.give(proxy, accounts.PILOT, 0o600)
    text = PILOT_CONFIG.format(
        port=world.port,
        ca_dir=world.grid / "certificates",
        proxy=proxy,
        slots=SLOTS,
        workdir=workdir,
        helper=world.prefix / "sbin" / "pilotage-exec",
        wrapper=world.prefix / "libexec" / "pilotage" / "pilotage-wrapper.py",
    )
    write(world.pilot / "pilot.toml", text)


def make_monitor(world: World, robot: Identity) -> None:
    """Keep the monitoring robot's end-entity certificate and key, root's alone."""
    world.monitor.mkdir(mode=0o700)
    for source, name in ((robot.cert_path, "cert.pem"), (robot.key_path, "key.pem")):
        target = world.monitor / name
        shutil.copyfile(source, target)
        target.chmod(0o400)


AS = """\
#!/bin/sh
# Run a command as one of the demo's owners, with the demo's grid: as alice pilotage ls
user=${{1:?usage: as USER COMMAND ...}}
shift
cd "{homes}/$user" || exit 1
exec runuser -u "$user" -- env -i HOME="{homes}/$user" USER="$user" LOGNAME="$user" TERM="${{TERM:-dumb}}" \\
	{environ} "$@"
"""


def shell_words(environ: dict[str, str]) -> str:
    """Return assignments for env(1)."""
    return " ".join(f'{name}="{value}"' for name, value in environ.items())


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file of root's that others may read."""
    path.write_text(text)
    path.chmod(mode)


def choose_ports() -> tuple[int, int]:
    """Return the usual two ports, or two free ones when somebody else has those."""
    if all(is_free(port) for port in PORTS):
        return PORTS
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
