"""What is remembered of verified chains, how much, and for whom."""

import itertools
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage_helper import ChainCache, Identity, VerifyOptions, verify_chain
from support import acs
from support import vectors as v
from support.helper_rig import ROOT, HelperRig
from support.remembering import SETTLED, fresh, remembered, settle
from support.verifying import refused, with_

VERIFY = ROOT / "helper_c" / "src" / "verify"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> v.Authority:
    """A grid whose files changed long enough ago; a test that changes one makes its own."""
    grid = v.grid_of(tmp_path_factory.mktemp("grid"))
    acs.server(grid, grid.ca_dir.parent)
    settle(grid.ca_dir.parent)
    return grid


@pytest.fixture(scope="module")
def options(grid: v.Authority) -> VerifyOptions:
    return VerifyOptions(grid.ca_dir, grid.ca_dir.parent / "vomsdir")


@pytest.fixture(scope="module")
def chain(grid: v.Authority) -> list[bytes]:
    return v.proxy(grid.user()).der


def test_a_verified_chain_is_found_again_and_no_other_one(
    grid: v.Authority, options: VerifyOptions, chain: list[bytes]
) -> None:
    cache = ChainCache(options)
    assert cache.find(chain) is None
    identity = cache.verify(chain)
    assert identity == verify_chain(chain, options)
    assert cache.find(chain) is identity
    assert cache.find([b"".join(chain)]) is identity
    # By a bit: a last byte that is named could be the right one.
    altered = chain[0][:-1] + bytes([chain[0][-1] ^ 1])
    for other in (chain[:-1], [*chain, chain[-1]], [*chain, b"\0"], [altered, *chain[1:]], [], [b""]):
        assert cache.find(other) is None
    assert cache.find(v.proxy(grid.user()).der) is None
    assert (cache.state.hits, cache.state.kept, cache.state.entries) == (2, 1, 1)


def test_attributes_and_what_was_left_out_are_found_as_they_were(
    grid: v.Authority, options: VerifyOptions, alice: v.Entity
) -> None:
    cache = ChainCache(options)
    server = acs.server(grid, grid.ca_dir.parent / "elsewhere", key=v.key("rsa", 8))
    here = acs.Server(server.entity, server.issuer, grid.ca_dir.parent / "vomsdir")
    stranger = acs.Server(server.entity, server.issuer, Path(), vo="other")
    acs_of = acs.value(acs.Ac(here, alice.certificate), acs.Ac(stranger, alice.certificate, ("/other",)))
    proxy = acs.proxy(alice, acs_of).der
    identity = cache.verify(proxy)
    assert (identity.fqans, "other" in identity.note) == (("/demo/Role=analysis", "/demo"), True)
    assert cache.find(proxy) is identity
    (grid.ca_dir.parent / "vomsdir" / "other").mkdir()
    assert cache.find(proxy) is None
    assert refused(lambda: cache.verify(proxy)) is Reason.VOMS_LSC_MISSING
    (grid.ca_dir.parent / "vomsdir" / "other").rmdir()


def test_a_refusal_is_never_remembered(grid: v.Authority, options: VerifyOptions, chain: list[bytes]) -> None:
    cache = ChainCache(with_(options, require_proxy=True))
    bare = grid.user().der
    for _ in range(2):
        assert refused(lambda: cache.verify(bare)) is Reason.NOT_A_PROXY
        assert cache.find(bare) is None
    assert cache.state.kept == 0
    assert isinstance(cache.verify(chain), Identity)


def test_a_cache_has_one_set_of_options(grid: v.Authority, options: VerifyOptions) -> None:
    bare = grid.user().der
    assert ChainCache(options).verify(bare)
    strict = ChainCache(with_(options, require_proxy=True))
    assert strict.find(bare) is None


def test_what_changed_in_the_last_two_seconds_is_verified_anew(tmp_path: Path) -> None:
    """A list that is written twice within one tick of the clock looks the same by its times."""
    grid = v.grid_of(tmp_path)
    options, chain = VerifyOptions(grid.ca_dir), v.proxy(grid.user()).der
    cache = ChainCache(options)
    settle(tmp_path)
    assert cache.verify(chain) == cache.find(chain)
    since = time.monotonic()
    grid.file(".r0").touch()
    tried = 0
    while cache.find(chain) is None:
        assert cache.verify(chain) == fresh(chain, options)
        tried += 1
        time.sleep(0.01)
    assert time.monotonic() - since >= 1.9
    assert tried >= 5


def test_a_list_that_is_rewritten_again_and_again_is_seen_each_time(tmp_path: Path) -> None:
    grid = v.grid_of(tmp_path)
    alice = grid.user()
    chain, options = v.proxy(alice).der, VerifyOptions(grid.ca_dir)
    texts = []
    for revoked in (99, alice.certificate.serial_number):
        grid.revoked[:] = [revoked]
        grid.write_crl()
        texts.append(grid.file(".r0").read_bytes())
    cache = ChainCache(options)
    seen = []
    for pause, text in itertools.product((0.0, 0.0, 0.0, SETTLED), texts):
        grid.file(".r0").write_bytes(text)
        time.sleep(pause)
        for _ in range(3):
            seen.append(remembered(cache, chain))
            assert seen[-1] == fresh(chain, options)
    assert seen.count(Reason.CERTIFICATE_REVOKED) == len(seen) / 2
    assert cache.state.hits > 0


def test_the_chains_used_last_are_kept(grid: v.Authority, options: VerifyOptions) -> None:
    cache = ChainCache(options, entries=3)
    chains = [v.proxy(grid.user()).der for _ in range(4)]
    for chain in chains[:3]:
        cache.verify(chain)
    assert cache.find(chains[0]) is not None
    cache.verify(chains[3])
    assert [cache.find(chain) is not None for chain in chains] == [True, False, True, True]
    assert (cache.state.entries, cache.state.evicted) == (3, 1)
    assert cache.verify(chains[1]).depth == 1
    assert cache.find(chains[0]) is None


def test_memory_is_bounded_by_bytes_too(grid: v.Authority, options: VerifyOptions) -> None:
    chains = [v.proxy(grid.user()).der for _ in range(6)]
    cache = ChainCache(options)
    cache.verify(chains[0])
    one = cache.state.size
    assert len(b"".join(chains[0])) < one < 16 * 1024
    small = ChainCache(options, max_bytes=int(one * 3.5))
    for chain in chains:
        small.verify(chain)
    assert (small.state.entries, small.state.evicted) == (3, 3)
    assert small.state.size <= one * 3.5
    assert small.find(chains[-1]) is not None
    none = ChainCache(options, max_bytes=one // 2)
    assert isinstance(none.verify(chains[0]), Identity)
    assert (none.find(chains[0]), none.state.kept) == (None, 0)


def test_threads_that_share_a_cache_of_few_get_each_their_own_identity(
    grid: v.Authority, options: VerifyOptions
) -> None:
    cache = ChainCache(options, entries=4)
    users = [(name, v.proxy(grid.user(name)).der) for name in ("ann", "ben", "cat", "dan", "eve", "fay")]
    wrong: list[str] = []
    found = [0]

    def ask(step: int) -> None:
        for turn in range(120):
            name, chain = users[(turn * step) % len(users) if turn % 3 else 0]
            known = cache.find(chain)
            found[0] += known is not None
            if (known or cache.verify(chain)).dn != f"/O=Test Grid/CN={name}":
                wrong.append(name)

    threads = [threading.Thread(target=ask, args=(step,)) for step in (1, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert found[0] > 50
    assert cache.state.entries <= 4
    assert cache.state.evicted > 0


def test_a_file_system_of_another_machine_is_asked_anew_each_time(grid: v.Authority, options: VerifyOptions) -> None:
    """What stat(2) says there may be old; /proc stands for all that are not known to be local."""
    cache = ChainCache(with_(options, voms_dir=Path("/proc/self/fdinfo")))
    chain = v.proxy(grid.user()).der
    assert isinstance(cache.verify(chain), Identity)
    assert (cache.find(chain), cache.state.kept) == (None, 0)


# where it is used, and what keeps it exact when the verifier changes


def code(path: Path) -> str:
    """A source file without comments and texts."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r'"(\\.|[^"\\])*"', '""', text)


FILE_CALLS = r"f?open(at2?|64)?|f?d?opendir|scandir|glob|f?access(at)?|[fl]?stat(x|at|fs|vfs)?|readlink(at)?|realpath"
TIME_CALLS = r"time|clock_gettime|gettimeofday|ASN1_TIME_\w+|X509_cmp_\w*time\w*|X509_\w*time_adj\w*"


@pytest.mark.parametrize(
    ("only", "words"),
    [("files.c", rf"\b({FILE_CALLS})\s*\("), ("clock.c", rf"\b({TIME_CALLS})\s*\("), ("clock.c", r"\bopt\s*->\s*at\b")],
)
def test_one_file_of_the_verifier_opens_files_and_one_knows_the_time(only: str, words: str) -> None:
    """Else an answer could rest on something that a memory of it does not look at."""
    assert {path.name for path in VERIFY.glob("*.c") if re.search(words, code(path))} == {only}


@pytest.mark.root
def test_no_program_of_the_helper_contains_the_cache(rig: HelperRig) -> None:
    programs = [rig.program, *sorted(path for path in rig.keeper.parent.iterdir() if path.is_file())]
    assert {rig.verifier.name, rig.keeper.name} <= {path.name for path in programs}
    for program in programs:
        names = subprocess.run(["readelf", "-Ws", program], capture_output=True, text=True, check=True).stdout
        assert ("pil_" in names) or program.name == "pilotage-sweep"
        assert not re.search(r"pil_(cache|trail)", names)
    extension = next((ROOT / "helper_c" / "python" / "pilotage_helper").glob("_native*.so"))
    names = subprocess.run(["readelf", "-Ws", extension], capture_output=True, text=True, check=True).stdout
    assert "pil_cache_find" in names


def test_only_the_server_remembers() -> None:
    parts = [ROOT / part for part in ("sdk", "pilot", "server", "helper_c/python")]
    users = {path for part in parts for path in part.rglob("*.py") if "ChainCache" in path.read_text()}
    assert {str(path.relative_to(ROOT)) for path in users} == {
        "server/pilotage_server/verifier.py",
        "helper_c/python/pilotage_helper/__init__.py",
        "helper_c/python/pilotage_helper/cache.py",
    }
