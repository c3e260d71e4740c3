"""Token use as a property: any order of the steps of two uses, and of a destruction; a crash between any two steps.

The real issuer on its real databases is held at each access to a store, and let go in an order that Hypothesis draws.
At each halt the files are copied as they lie on the disk, which is what a power cut there would leave.
"""

import asyncio
import contextlib
import contextvars
import datetime
import itertools
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.secret import Secret
from pilotage.v1 import pilot_pb2
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind, make_key, thumbprint
from pilotage.x509.requests import make_request
from pilotage_server.app import App
from pilotage_server.commands import main
from pilotage_server.credentials.issuing import Wanted
from pilotage_server.principal import Principal, Proof
from pilotage_server.store.database import Database
from pilotage_server.workers import Workers
from support.journey import acquire, delegate, register, submit
from support.server_rig import Rig

EC = KeyKind.EC_P256
ACTOR: contextvars.ContextVar[str] = contextvars.ContextVar("actor", default="")
STEPS_AT_MOST = 32
Doing = Callable[[App], Awaitable[object]]


class Turns:
    """Holds actors at the stores, and lets one of them make one step at a time."""

    def __init__(self) -> None:
        self._held: dict[str, asyncio.Future[None]] = {}
        self._moved = asyncio.Event()

    async def gate(self) -> None:
        """Wait for one's turn; whoever is no actor passes."""
        if actor := ACTOR.get():
            self._held[actor] = asyncio.get_running_loop().create_future()
            self._moved.set()
            await self._held[actor]

    async def run(
        self, app: App, actors: dict[str, Doing], order: list[int], halt: Callable[[], None]
    ) -> dict[str, object]:
        """Run the actors to their ends and return what each got; `halt` is called when all stand still."""

        async def act(name: str, doing: Doing) -> object:
            ACTOR.set(name)
            await self.gate()
            try:
                return await doing(app)
            except PilotageError as error:
                return error.reason.name

        tasks = {name: asyncio.create_task(act(name, doing)) for name, doing in actors.items()}
        for task in tasks.values():
            task.add_done_callback(lambda _: self._moved.set())
        choices = iter(order)
        while True:
            while any(not task.done() and name not in self._held for name, task in tasks.items()):
                self._moved.clear()
                await asyncio.wait_for(self._moved.wait(), 20)
            halt()
            if not self._held:
                break
            name = sorted(self._held)[next(choices, 0) % len(self._held)]
            self._held.pop(name).set_result(None)
        return {name: task.result() for name, task in tasks.items()}


class Seen(msgspec.Struct, frozen=True):
    """What the files say of one token: the serials that were issued, and what the audit has of them, in order."""

    issued: tuple[str, ...]
    told: tuple[str, ...]
    acts: tuple[str, ...]


def look(state: Path, copy: Path, lease_id: str) -> Seen:
    """Copy the files as they lie there, and open the copy as a server does after a power cut."""
    for name in ("credentials.sqlite", "credentials.sqlite-wal"):
        shutil.copyfile(state / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "credentials.sqlite")) as connection:
        issued = connection.execute("SELECT serial FROM issuances WHERE lease_id = ?", (lease_id,)).fetchall()
        rows = connection.execute(
            "SELECT act, reason, json_extract(facts, '$.serial') FROM audit WHERE lease_id = ? OR credential_id ="
            " (SELECT credential_id FROM audit WHERE lease_id = ? LIMIT 1) ORDER BY seq",
            (lease_id, lease_id),
        ).fetchall()
    told = tuple(serial for act, _, serial in rows if act in ("proxy issued", "proxy renewed"))
    acts = tuple(f"{act} {reason}".strip() for act, reason, _ in rows if act != "credential stored")
    return Seen(tuple(row[0] for row in issued), told, acts)


class World:
    """A server whose stores hold whoever is an actor; leases and tokens are made as pilots get them."""

    def __init__(self, rig: Rig, alice_proxy: Path, pilot_proxy: Path, copies: Path) -> None:
        self.rig = rig
        self._alice, self._robot = load_identity(alice_proxy), load_identity(pilot_proxy)
        self._owner, self._pilot = rig.client(self._alice), rig.client(self._robot)
        self._pilot_id = register(self._pilot, slots=1000)
        self._copies = copies
        self.turns = Turns()

    def lease(self) -> pilot_pb2.Lease:
        """Return a new lease, of a credential of its own."""
        submit(self._owner, delegate(self._owner, self._alice, kind=EC))
        return acquire(self._pilot, self._pilot_id)

    def use(self, lease: pilot_pb2.Lease) -> Doing:
        """Return one use of a lease's token, which brings a proxy's serial number."""
        caller = Principal(
            dn="/O=Toy Grid/CN=Robot - pilot factory",
            vo="demo",
            fqans=("/demo/Role=pilot",),
            limited=False,
            thumbprint=thumbprint(self._robot.key.public_key()),
            proof=Proof.SESSION,
            expire_time=self.rig.clock() + datetime.timedelta(hours=1),
        )
        wanted = Wanted(
            token=Secret(lease.credential_token),
            retrieval_key=Secret(lease.retrieval_key),
            request=make_request(make_key(EC)),
            lifetime=datetime.timedelta(0),
        )

        async def doing(app: App) -> object:
            proxy = await app._issuer.issue(caller, wanted, renewal=False)
            return str(x509.load_der_x509_certificate(proxy.chain[0]).serial_number)

        return doing

    def destroy(self, lease: pilot_pb2.Lease) -> Doing:
        """Return the owner's destruction of the credential of a lease."""
        caller = Principal(
            dn="/O=Toy Grid/CN=Alice",
            vo="demo",
            fqans=(),
            limited=False,
            thumbprint=b"t" * 32,
            proof=Proof.SESSION,
            expire_time=self.rig.clock() + datetime.timedelta(hours=1),
        )
        return lambda app: app._keeper.destroy(caller, lease.credential_id)

    def race(
        self, lease: pilot_pb2.Lease, actors: dict[str, Doing], order: list[int]
    ) -> tuple[dict[str, object], list[Seen]]:
        """Run the actors in an order; return what they got, and what the files said at each halt."""
        halts: list[Seen] = []

        def halt() -> None:
            halts.append(look(self.rig.state, self._copies, lease.lease_id))

        return self.rig.call(lambda app: self.turns.run(app, actors, order, halt)), halts


@pytest.fixture
def world(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    plenty = {"pilot_strikes": 100_000, "dn_strikes": 100_000, "owner_delegations_per_minute": 100_000}
    copies = tmp_path / "copies"
    copies.mkdir()
    made = World(make_rig(abuse=plenty), alice_proxy, pilot_proxy, copies)
    read, write, write_prepared = Database.read, Database.write, Database.write_prepared

    async def read_in_turn(self: Database, *values: object, **named: object) -> object:
        await made.turns.gate()
        return await read(self, *values, **named)  # type: ignore[arg-type]  # passed on

    async def write_in_turn(self: Database, *values: object, **named: object) -> object:
        await made.turns.gate()
        return await write(self, *values, **named)  # type: ignore[arg-type]  # passed on

    async def prepare_and_write_in_turn(
        self: Database, threads: Workers, prepare: Callable[[], object], *values: object, **named: object
    ) -> object:
        """Sign in one step, and spend the token in the next."""
        await made.turns.gate()
        prepared = await threads.run(prepare)
        await made.turns.gate()
        return await write_prepared(self, threads, lambda: prepared, *values, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write_prepared", prepare_and_write_in_turn)
        patched.setattr(Database, "read", read_in_turn)
        patched.setattr(Database, "write", write_in_turn)
        yield made
    assert main(["audit", "verify", "--config", str(made.rig.config_path)]) == 0


# Full length: beyond its end a list would let the first actor go alone.
ORDERS = st.lists(st.integers(0, 1), min_size=STEPS_AT_MOST, max_size=STEPS_AT_MOST)
PROPERTY = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def consistent(halts: list[Seen]) -> None:
    """Check each state in which a crash would have left the files: a spent token and its row are one."""
    for before, after in itertools.pairwise(halts):
        assert after.acts[: len(before.acts)] == before.acts
    for seen in halts:
        assert seen.issued == seen.told
        assert len(seen.issued) <= 1


@PROPERTY
@given(order=ORDERS)
@example(order=[0, 1] * 16)
@example(order=[0] * 6 + [1] * 26)
def test_two_uses_of_a_token_give_one_proxy_whatever_the_order_of_their_steps(world: World, order: list[int]) -> None:
    lease = world.lease()
    got, halts = world.race(lease, {"one": world.use(lease), "two": world.use(lease)}, order)
    consistent(halts)
    assert len(halts) > 10, "the uses were not held step by step"
    (serial,) = halts[-1].issued
    assert sorted(map(str, got.values())) == sorted([serial, "TOKEN_USED"])
    assert sorted(halts[-1].acts) == ["proxy issued", "retrieval refused TOKEN_USED"]
    # Whoever is still held has got nothing: the row comes before the proxy, wherever the power goes.
    assert next(n for n, seen in enumerate(halts) if seen.issued) < len(halts) - 1


def test_a_destruction_between_any_two_steps_of_a_use_comes_before_it_or_after_it(world: World) -> None:
    """Whole, after one step more of the use each time, until it comes too late."""
    outcomes = [destroyed(world, [1] * steps + [0] * STEPS_AT_MOST) for steps in range(1, 16)]
    late = outcomes.index(False)
    assert late >= 4, "the use was not held between each two of: look at the lease, at the token, sign, spend"
    assert outcomes == [True] * late + [False] * (len(outcomes) - late)


def destroyed(world: World, order: list[int]) -> bool:
    """Use a token while its credential is destroyed; return whether that came first."""
    lease = world.lease()
    got, halts = world.race(lease, {"destroy": world.destroy(lease), "use": world.use(lease)}, order)
    consistent(halts)
    acts = list(halts[-1].acts)
    first = got["use"] == "CREDENTIAL_DESTROYED"
    if first:
        assert acts == ["credential destroyed", "retrieval refused CREDENTIAL_DESTROYED"]
        assert halts[-1].issued == ()
    else:
        assert (got["use"],) == halts[-1].issued
        assert acts == ["proxy issued", "credential destroyed"]
    return first
