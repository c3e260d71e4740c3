"""Measure the credential service against the real myproxy-server, and against the bare signatures.

Run by root as `bench/credentials`; bench/README.md says what is measured and what was found.
"""

import argparse
import datetime
import functools
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import msgspec
from bench import timing
from bench.crowd import latencies, requests_of, silent
from bench.myproxy_peer import MyProxy
from bench.ratios import RateGoal, Sample, cpu_ratio, quantile, rate_verdict, table
from bench.service import Service, open_files
from cryptography import x509
from toygrid import ToyGrid

from pilotage.x509.keys import key_from_der, key_to_der, make_key
from pilotage.x509.proxies import sign_proxy
from pilotage.x509.requests import check_request
from pilotage_helper import VerifyOptions, verify_chain
from pilotage_server.clock import utc_now
from support.journey import proxy_chain
from support.server_rig import Client

KEPT, FRESH, PUT, INFO = "retrieve, kept channel", "connect, log in, retrieve", "delegate, keys ready", "ask for one"
GET_PEER, PUT_PEER, INFO_PEER = "myproxy GET", "myproxy PUT", "myproxy INFO"
AT_ONCE = 8
KEPT_AT_ONCE, FRESH_AT_ONCE = f"retrieve, {AT_ONCE} channels at once", f"connect, ..., {AT_ONCE} at once"
GET_AT_ONCE = f"myproxy GET, {AT_ONCE} at once"
SIGN, CHECK, VERIFY = "sign the proxy", "check the request", "verify the stored chain anew"
GOALS = (RateGoal(KEPT_AT_ONCE, GET_AT_ONCE, 9), RateGoal(FRESH_AT_ONCE, GET_AT_ONCE, 4), RateGoal(PUT, PUT_PEER, 40))
LONE = ((KEPT, GET_PEER), (FRESH, GET_PEER))
"""Of a server that is idle between two calls, which makes each dearer; no goal."""
CLIENTS = 16
SILENT = 1000
SILENT_MOST = 1.2
FLAT = 1.15
"""What is still called flat: a measurement of two equal things differs by as much on a busy machine."""


class Sizes(msgspec.Struct, frozen=True):
    """How much is done."""

    rounds: int
    gets: int
    puts: int
    peers: int
    entries: int
    crowd_rounds: int
    concurrent: int
    infos: int


FULL = Sizes(rounds=6, gets=60, puts=10, peers=6, entries=50_000, crowd_rounds=8, concurrent=20, infos=1000)
QUICK = Sizes(rounds=1, gets=8, puts=2, peers=2, entries=200, crowd_rounds=1, concurrent=4, infos=50)


class Way(msgspec.Struct, frozen=True):
    """One operation: what must be ready before it, itself, whose processor time counts, how often, how many at once."""

    name: str
    prepare: Callable[[], object]
    work: Callable[[object], object]
    cpu_seconds: Callable[[], float]
    times: int
    at_once: int = 1

    def sample(self) -> Sample:
        """Do it as often as a round wants; return the mean wall time, and the server's mean CPU time."""
        ready = [self.prepare() for _ in range(self.times)]
        cpu, began = self.cpu_seconds(), time.perf_counter()
        if self.at_once == 1:
            for one in ready:
                self.work(one)
        else:
            with ThreadPoolExecutor(self.at_once) as pool:
                list(pool.map(self.work, ready))
        wall = time.perf_counter() - began
        return Sample(wall * 1000 / self.times, (self.cpu_seconds() - cpu) * 1000 / self.times)


def ways(service: Service, peer: MyProxy, sizes: Sizes) -> list[Way]:
    """Return what is compared."""

    def plain(name: str, work: Callable[[], None], clock: Callable[[], float], times: int) -> Way:
        return Way(name, lambda: None, lambda _: work(), clock, times)

    ours = service.cpu_seconds
    free: SimpleQueue[Client] = SimpleQueue()
    for _ in range(AT_ONCE):
        free.put(service.client(service.pilot_identity))

    def kept(request: object) -> None:
        client = free.get()
        client.credentials.RetrieveCredential(request)  # type: ignore[arg-type]
        free.put(client)

    return [
        Way(KEPT, service.token, service.get_kept, ours, sizes.gets),  # type: ignore[arg-type]
        Way(FRESH, service.token, service.get_fresh, ours, max(1, sizes.gets // 2)),  # type: ignore[arg-type]
        Way(KEPT_AT_ONCE, service.token, kept, ours, sizes.gets * 2, AT_ONCE),
        Way(FRESH_AT_ONCE, service.token, service.get_fresh, ours, sizes.gets, AT_ONCE),  # type: ignore[arg-type]
        plain(PUT, service.put, ours, sizes.puts),
        plain(INFO, service.info, ours, sizes.gets),
        plain(GET_PEER, peer.get, peer.cpu_seconds, sizes.peers * 3),
        Way(GET_AT_ONCE, lambda: None, lambda _: peer.get(), peer.cpu_seconds, sizes.peers * 4, AT_ONCE),
        plain(PUT_PEER, peer.put, peer.cpu_seconds, sizes.peers),
        plain(INFO_PEER, peer.info, peer.cpu_seconds, sizes.peers),
    ]


def compare(service: Service, peer: MyProxy, sizes: Sizes) -> dict[str, list[Sample]]:
    """Return every way's samples, from rounds in random order; the first round does not count."""
    all_ways = ways(service, peer, sizes)
    times: dict[str, list[Sample]] = {way.name: [] for way in all_ways}
    for turn in range(sizes.rounds + 1):
        for way in random.sample(all_ways, len(all_ways)):
            service.settle()
            sample = way.sample()
            if turn:
                times[way.name].append(sample)
    return times


def floors(service: Service, rounds: int) -> dict[str, float]:
    """Return the CPU milliseconds of the bare operations of one retrieval, in this process.

    The chain is as long as the stored one, and its key is loaded each time, because the service keeps none.
    """
    identity, hour = service.owner_identity, datetime.timedelta(hours=1)
    public, key = check_request(service.request), make_key()
    options = VerifyOptions(service.grid.ca_dir, service.grid.voms_dir)
    stored, secret = proxy_chain(identity, key.public_key()), key_to_der(key)
    chain = [x509.load_der_x509_certificate(certificate) for certificate in stored]

    def sign() -> None:
        sign_proxy(chain, key_from_der(secret), public, lifetime=hour, now=utc_now())

    operations: dict[str, Callable[[], object]] = {
        SIGN: sign,
        CHECK: functools.partial(check_request, service.request),
        VERIFY: functools.partial(verify_chain, stored, options),
    }
    found = {}
    for name, work in operations.items():
        costs = []
        for _ in range(rounds):
            began = time.thread_time()
            work()
            costs.append((time.thread_time() - began) * 1000)
        found[name] = statistics.median(costs)
    return found


def crowds(service: Service, sizes: Sizes) -> list[str]:
    """Return the lines on 16 clients at once, without and with a thousand connections that say nothing."""
    clients = [service.client(service.pilot_identity) for _ in range(CLIENTS)]
    latencies(clients, requests_of(service, CLIENTS, 2))
    plain: list[float] = []
    ratios: list[float] = []
    for turn in range(sizes.crowd_rounds):
        found: dict[bool, list[float]] = {}
        for crowded in (False, True) if turn % 2 else (True, False):
            requests = requests_of(service, CLIENTS, sizes.concurrent)
            with silent(service.server.port, SILENT if crowded else 0):
                found[crowded] = latencies(clients, requests)
        plain += found[False]
        ratios.append(quantile(found[True], 0.99) / quantile(found[False], 0.99))
    for client in clients:
        client.channel.close()
    ratio = statistics.median(ratios)
    return [
        f"{CLIENTS} clients at once: median {quantile(plain, 0.5):.1f} ms, p99 {quantile(plain, 0.99):.1f} ms",
        f"goal: p99 with {SILENT} silent connections <= {SILENT_MOST} x without: "
        f"{_verdict(ratio, SILENT_MOST)} (rounds {min(ratios):.2f} to {max(ratios):.2f})",
    ]


class Burden(msgspec.Struct, frozen=True):
    """What a number of stored credentials means: CPU milliseconds of two questions, and bytes of memory."""

    info: float
    listing: float
    memory: int


def burden(service: Service, sizes: Sizes) -> Burden:
    """Start the server anew, ask it the same questions, and look at it."""
    service.stop()
    service.start()

    def cost(work: Callable[[], None]) -> float:
        parts = []
        for _ in range(5):
            before = service.cpu_seconds()
            for _ in range(sizes.infos // 5):
                work()
            parts.append((service.cpu_seconds() - before) * 1000 / (sizes.infos // 5))
        return statistics.median(parts)

    info, listing = cost(service.info), cost(service.list_own)
    return Burden(info, listing, service.anonymous_bytes())


def growth(service: Service, sizes: Sizes) -> list[str]:
    """Return the lines on 50,000 stored credentials against few: cost of a question, memory, disk."""
    few = burden(service, sizes)
    disk = service.database.stat().st_size
    fill(service, sizes.entries)
    many = burden(service, sizes)
    disk = service.database.stat().st_size - disk
    per = 10_000 / sizes.entries / 2**20
    return [
        f"goal: {INFO} of {sizes.entries:,} flat (<= {FLAT} x {INFO} of few): {_verdict(many.info / few.info, FLAT)}",
        f"list the owner's own: {few.listing:.2f} ms CPU among few, {many.listing:.2f} among {sizes.entries:,}",
        f"for 10,000 stored credentials: {(many.memory - few.memory) * per:.2f} MiB of memory"
        f" ({few.memory / 2**20:.1f} MiB with few, {many.memory / 2**20:.1f} with {sizes.entries:,}),"
        f" {disk * per:.1f} MiB of disk",
    ]


def fill(service: Service, entries: int) -> None:
    """Store copies of the one credential for as many other owners; the server may run."""
    with sqlite3.connect(service.database, timeout=30) as connection:
        names = [name for (_, name, *_) in connection.execute("PRAGMA table_info(credentials)")]
        identifier = service.delegated.credential_id
        one = connection.execute("SELECT * FROM credentials WHERE credential_id = ?", (identifier,)).fetchone()
        place = {name: at for at, name in enumerate(names)}
        rows = []
        for number in range(entries):
            copy = list(one)
            copy[place["credential_id"]] = f"{identifier}-{number}"
            copy[place["owner_dn"]] = f"/O=Toy Grid/CN=other {number}"
            rows.append(copy)
        marks = ", ".join("?" for _ in names)
        connection.executemany(f"INSERT INTO credentials ({', '.join(names)}) VALUES ({marks})", rows)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _verdict(found: float, most: float) -> str:
    return f"{found:.2f} {'met' if found <= most else 'missed'}"


def report(folder: Path, sizes: Sizes) -> None:
    """Set up, measure, and print each part when it is there."""
    grid = ToyGrid(folder / "grid")
    for name in ("ours", "peer"):
        (folder / name).mkdir(mode=0o700)
    service = Service(grid, folder / "ours")
    try:
        peer = MyProxy(grid, folder / "peer", grid.host("localhost"), service.owner_proxy, service.pilot_proxy)
        try:
            peer.put()
            times = compare(service, peer, sizes)
        finally:
            peer.close()
        tell([table(times, [GET_PEER]), "", *rates(times), "", *(rate_verdict(times, goal) for goal in GOALS)])
        tell([f"no goal: {own} is {cpu_ratio(times, get, own):.1f} x the rate of {get}" for own, get in LONE])
        bare = floors(service, sizes.gets)
        kept = statistics.mean(sample.cpu for sample in times[KEPT])
        words = ", ".join(f"{name} {cost:.2f}" for name, cost in bare.items())
        signing = kept / (bare[SIGN] + bare[CHECK])
        tell([f"floor: {words} ms; {KEPT} is {signing:.1f} x the first two, {kept / sum(bare.values()):.1f} x all"])
        tell(crowds(service, sizes))
        tell(growth(service, sizes))
    finally:
        service.close()


def rates(times: dict[str, list[Sample]]) -> Sequence[str]:
    """Return what one processor of the server does in a second."""
    costs = {name: statistics.mean(sample.cpu for sample in samples) for name, samples in times.items()}
    return [f"rate: {name}: {1000 / cost:.0f} a second for one processor" for name, cost in costs.items() if cost]


def tell(lines: Sequence[str]) -> None:
    """Print lines, now."""
    print("\n".join(lines), flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="bench/credentials", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=FULL.rounds, help=f"rounds to measure ({FULL.rounds})")
    parser.add_argument(
        "--quick", action="store_true", help="do little, to see that it works; the figures mean nothing"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure in a folder of its own, which is removed."""
    options = parse(arguments)
    if os.geteuid() != 0:
        print("bench/credentials needs root: myproxy-server wants its host key to be root's", file=sys.stderr)
        return 1
    sizes = QUICK if options.quick else msgspec.structs.replace(FULL, rounds=options.rounds)
    open_files()
    tell([f"{sizes.rounds} rounds, {timing.load()} before", ""])
    with tempfile.TemporaryDirectory(prefix=f"pilotage-bench-{os.getpid()}-") as name:
        report(Path(name), sizes)
    tell(["", f"{timing.load()} after"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
