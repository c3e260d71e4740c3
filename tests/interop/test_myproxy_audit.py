"""What the gateway writes down is what it did, no more and no less, and the chain proves it."""

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.myproxy.messages import Command
from pilotage.v1 import credential_pb2 as pb
from pilotage_server.commands import main
from pilotage_server.gateway.opening import Locksmith
from support.gateway import PASS, code, put, request, say, stored, take
from support.server_rig import Rig, local_identity

pytestmark = pytest.mark.interop

OTHER = "another-phrase-4"


@pytest.fixture
def make_rig(grid: ToyGrid, host: Identity, alice: Identity, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**more: object) -> Rig:
        gateway: dict[str, object] = {"listen": "127.0.0.1:0", "authorized_retrievers": ["*"], **more}
        gateway |= {"allow_key_storage": True, "authorized_key_retrievers": ["*"]}
        gateway |= {"default_key_retrievers": ["/O=Toy Grid/*"]}
        rig = Rig(grid, tmp_path, host, {"gateway": gateway, "roles": {"owner": [alice.dn]}})
        made.append(rig)
        rig.start()
        return rig

    yield make
    for rig in made:
        rig.stop()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


def acts(rig: Rig) -> Counter[str]:
    """Count the rows of the gateway's acts."""
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as database:
        found = database.execute("SELECT act FROM audit WHERE json_extract(facts, '$.through') = 'myproxy'")
        return Counter(str(act) for (act,) in found)


def destroy_as_pilotage_does(rig: Rig, who: Identity, name: str) -> None:
    """Destroy a credential through CredentialService."""
    stub = rig.client(local_identity(who)).credentials
    (found,) = [one for one in stub.ListCredentials(pb.ListCredentialsRequest()).credentials if one.name == name]
    stub.DestroyCredential(pb.DestroyCredentialRequest(credential_id=found.credential_id))


def test_the_chain_is_proven_with_what_the_gateway_gave_out(rig: Rig, alice: Identity) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    assert take(rig).chain
    assert say(rig, alice, request(Command.RETRIEVE, phrase=PASS)) == "OK"
    assert acts(rig) == {"credential stored": 1, "proxy issued": 1, "key retrieved": 1}
    assert main(["audit", "verify", "--config", str(rig.config_path)]) == 0


@pytest.mark.parametrize("act", ["proxy issued", "key retrieved"])
def test_what_was_given_out_cannot_be_taken_from_the_issuances(
    rig: Rig, alice: Identity, act: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    if act == "proxy issued":
        take(rig)
    else:
        say(rig, alice, request(Command.RETRIEVE, phrase=PASS))
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as database:
        (seq,) = database.execute("SELECT seq FROM audit WHERE act = ?", (act,)).fetchone()
        assert database.execute("DELETE FROM issuances").rowcount == 1
        database.commit()
    assert main(["audit", "verify", "--config", str(rig.config_path)]) != 0
    assert f"broken at row {seq}: the proxy it tells of is not among the issuances" in "".join(capsys.readouterr())


def test_a_credential_that_two_destroy_at_once_is_destroyed_once(rig: Rig, alice: Identity) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite", isolation_level=None)) as other:
        # Both have looked, and wait for the database to write.
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(say, rig, alice, request(Command.DESTROY)) for _ in range(2)]
            assert not any(one.done() for one in both)
            with contextlib.suppress(TimeoutError):
                both[0].result(2)
            other.execute("ROLLBACK")
            assert [one.result() for one in both] == ["OK", "OK"]
    assert acts(rig)["credential destroyed"] == 1


def test_a_pass_phrase_that_somebody_else_changed_meanwhile_was_not_changed(
    rig: Rig, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    change, both = Locksmith.change, asyncio.Barrier(2)

    async def together(*values: object) -> object:
        await both.wait()
        return await change(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(Locksmith, "change", together)
    phrases = ["first-new-phrase", "second-new-phrase"]
    with ThreadPoolExecutor(2) as pool:
        texts = [request(Command.CHANGE, phrase=PASS, NEW_PHRASE=phrase) for phrase in phrases]
        said = list(pool.map(lambda text: say(rig, alice, text), texts))
    assert sorted(said) == ["OK", "UNAVAILABLE"]
    assert acts(rig) == {"credential stored": 1, "pass phrase changed": 1, "myproxy request refused": 1}


def test_what_was_destroyed_already_is_not_destroyed_by_what_takes_its_name(rig: Rig, alice: Identity) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    destroy_as_pilotage_does(rig, alice, "myproxy/alice")
    stored(rig, alice, request(Command.PUT, phrase=OTHER))
    assert take(rig, phrase=OTHER).chain
    assert acts(rig) == {"credential stored": 2, "proxy issued": 1}


def test_the_name_of_what_was_destroyed_is_no_way_past_the_limit(make_rig: Callable[..., Rig], alice: Identity) -> None:
    rig = make_rig(max_credentials=2)
    for name in ("one", "two"):
        stored(rig, alice, request(Command.PUT, phrase=PASS, CRED_NAME=name))
    destroy_as_pilotage_does(rig, alice, "myproxy/alice/one")
    stored(rig, alice, request(Command.PUT, phrase=PASS, CRED_NAME="three"))
    assert code(put(rig, alice, request(Command.PUT, phrase=PASS, CRED_NAME="one"))) == "CREDENTIAL_LIMIT"
    # One that is there is replaced, however many there are.
    stored(rig, alice, request(Command.PUT, phrase=OTHER, CRED_NAME="two"))


def test_a_clock_that_is_put_back_silences_no_refusal(rig: Rig, alice: Identity) -> None:
    assert say(rig, alice, request(Command.INFO)) == "CREDENTIAL_NOT_FOUND"
    rig.clock.turn(-3600)
    assert say(rig, alice, request(Command.INFO)) == "CREDENTIAL_NOT_FOUND"
    assert acts(rig)["myproxy request refused"] == 2


def test_the_longest_pass_phrase_that_is_taken_in_gives_the_key_out(rig: Rig, alice: Identity) -> None:
    long = "x" * 1023
    assert code(put(rig, alice, request(Command.PUT, phrase=f"{long}x"))) == "PASSPHRASE_REFUSED"
    stored(rig, alice, request(Command.PUT, phrase=long))
    assert say(rig, alice, request(Command.CHANGE, phrase=long, NEW_PHRASE=f"{long}x")) == "PASSPHRASE_REFUSED"
    assert say(rig, alice, request(Command.RETRIEVE, phrase=long)) == "OK"
