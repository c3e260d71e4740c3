"""The demo measures what is left behind: what is there is found, what is not there is not."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from journey import leftovers
from journey.leftovers import Leftovers, Search
from toygrid import Identity, ToyGrid

STRANGER = 54321


def der(who: Identity) -> bytes:
    """Return somebody's certificate as the search takes it."""
    return x509.load_pem_x509_certificate(who.cert_path.read_bytes()).public_bytes(Encoding.DER)


def search(tmp_path: Path, **changes: object) -> Search:
    """Return a search over folders of this test alone."""
    values: dict[str, object] = {
        "uids": frozenset({STRANGER}),
        "homes": (tmp_path / "home",),
        "places": (tmp_path / "pilot",),
        "dns": ("/O=Toy Grid/CN=alice",),
        "certificates": frozenset(),
        "allowed": frozenset(),
        "since": 0.0,
    }
    return Search(**{**values, **changes})  # type: ignore[arg-type]  # the table above has each field's type


@pytest.fixture(autouse=True)
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this test's own public folder, home and pilot folder."""
    for name in ("public", "home", "pilot"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(leftovers, "PUBLIC_FOLDERS", (tmp_path / "public",))
    return tmp_path / "public"


def test_a_clean_machine_has_nothing_left(tmp_path: Path) -> None:
    left = search(tmp_path).measure()
    assert left == Leftovers([], [], [])
    assert not left


def test_whatever_lies_in_a_home_is_left_behind(tmp_path: Path) -> None:
    hidden = tmp_path / "home" / ".cache"
    hidden.mkdir()
    (hidden / "data").write_text("x")
    assert search(tmp_path).measure().files == [str(hidden), str(hidden / "data")]


def test_what_was_there_before_the_demo_is_not_blamed_on_it(tmp_path: Path) -> None:
    (tmp_path / "home" / "old").write_text("x")
    assert not search(tmp_path, since=time.time() + 60).measure()


def test_a_proxy_of_an_owner_is_found_wherever_it_lies(tmp_path: Path, public: Path) -> None:
    grid = ToyGrid(tmp_path / "grid")
    alice, carol = grid.user("alice"), grid.user("carol")
    mine = grid.plain_proxy(alice, tmp_path / "pilot" / "proxy.pem")
    ours = frozenset({der(alice)})
    copy = public / "harmless.txt"
    copy.write_text("notes\n" + mine.read_text())
    grid.plain_proxy(carol, public / "of-somebody-else")
    left = search(tmp_path, certificates=ours).measure()
    assert left.proxies == sorted([str(mine), str(copy)])
    assert search(tmp_path, certificates=ours, allowed=frozenset({copy})).measure().proxies == [str(mine)]


def test_a_proxy_without_the_certificate_behind_it_counts_by_its_name(tmp_path: Path, public: Path) -> None:
    alice = ToyGrid(tmp_path / "grid").user("alice")
    whole = ToyGrid(tmp_path / "other").plain_proxy(alice, tmp_path / "proxy.pem").read_text()
    first = whole[: whole.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    (public / "leaf").write_text(first)
    assert search(tmp_path, certificates=frozenset({der(alice)})).measure().proxies == [str(public / "leaf")]


def test_a_namesake_of_another_grid_is_not_taken_for_the_owner(tmp_path: Path, public: Path) -> None:
    alice, namesake = (ToyGrid(tmp_path / name).user("alice") for name in ("grid", "other"))
    ToyGrid(tmp_path / "third").plain_proxy(namesake, public / "theirs")
    assert not search(tmp_path, certificates=frozenset({der(alice)})).measure()


def test_an_end_entity_certificate_alone_is_no_proxy(tmp_path: Path, public: Path) -> None:
    alice = ToyGrid(tmp_path / "grid").user("alice", key="ec")
    (public / "cert.pem").write_bytes(alice.cert_path.read_bytes())
    assert not search(tmp_path).measure().proxies


@pytest.mark.root
def test_a_file_of_a_pool_account_in_a_public_folder_is_left_behind(tmp_path: Path, public: Path) -> None:
    (public / "mine").write_text("x")
    (public / "theirs").write_text("x")
    os.chown(public / "theirs", STRANGER, STRANGER)
    assert search(tmp_path).measure().files == [str(public / "theirs")]


@pytest.mark.root
def test_a_process_of_a_pool_account_is_left_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"], user=STRANGER, group=STRANGER, extra_groups=[])
    try:
        assert search(tmp_path).measure().processes == [f"{process.pid} sleep uid {STRANGER}"]
    finally:
        process.kill()
        process.wait()
    assert not search(tmp_path).measure()


@pytest.mark.root
def test_shared_memory_of_a_pool_account_is_left_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        ["ipcmk", "--shmem", "4096"], user=STRANGER, group=STRANGER, capture_output=True, text=True, check=True
    )
    number = done.stdout.split()[-1]
    try:
        assert search(tmp_path).measure().files == [f"System V shm {number}"]
    finally:
        subprocess.run(["ipcrm", "--shmem-id", number], check=True)
