"""The policy of retrievals through the whole service: what proxies are, by VO, and how it is configured."""

import datetime
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from toygrid import ToyGrid

import pilotage_helper
from pilotage.errors import PilotageError, VerifyError
from pilotage.v1 import credential_pb2 as pb
from pilotage.voms.attribute import add_attributes
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, PrivateKey, make_key
from pilotage.x509.proxies import end_entity, is_limited, sign_proxy
from pilotage.x509.requests import check_request
from pilotage_server.clock import utc_now
from pilotage_server.commands import main
from support import vectors
from support.journey import Delegated, submit
from support.retrieval import (
    BY_VO,
    Member,
    Node,
    attributes,
    facts,
    path_length,
)
from support.server_rig import Rig


def test_proxies_are_limited_short_and_bounded_as_the_policy_of_their_vo_says(
    ruled: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, plain_proxy: Path, pilot_proxy: Path
) -> None:
    rig = ruled(**BY_VO)
    pilot, found = Node(rig, pilot_proxy), {}
    for proxy in (alice_proxy, others_proxy, plain_proxy):
        member = Member(rig, proxy)
        member.submit()
        found[proxy] = facts(pilot.retrieve(pilot.take()), rig)
    assert found == {alice_proxy: (True, 1, 1), others_proxy: (False, None, 2), plain_proxy: (False, 0, 2)}


def below(chain: Sequence[x509.Certificate], key: PrivateKey, number: int) -> vectors.Entity:
    """Make a proxy below a chain, whatever that allows."""
    limited = vectors.proxy_info(vectors.LIMITED)
    return vectors.proxy(
        vectors.Entity(chain[0], key, tuple(chain[1:])),
        subject=vectors.below(chain[0].subject, str(number)),
        extensions=vectors.proxy_extensions(limited),
        end=chain[0].not_valid_after_utc,
    )


def openssl_says(chain: Sequence[x509.Certificate], grid: ToyGrid, folder: Path) -> str:
    (folder / "leaf.pem").write_bytes(vectors.pem(chain[0]))
    (folder / "rest.pem").write_bytes(vectors.chain_pem(chain[1:]))
    command = ["openssl", "verify", "-allow_proxy_certs", "-CApath", str(grid.ca_dir)]
    command += ["-untrusted", str(folder / "rest.pem"), str(folder / "leaf.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


def we_say(chain: Sequence[x509.Certificate], grid: ToyGrid) -> str:
    options = pilotage_helper.VerifyOptions(ca_dir=grid.ca_dir, voms_dir=grid.voms_dir, require_proxy=True)
    try:
        pilotage_helper.verify_chain([vectors.der(certificate) for certificate in chain], options)
    except VerifyError as error:
        return error.reason.name
    return "OK"


def test_verifiers_hold_who_gets_a_proxy_to_its_path_length(
    ruled: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, grid: ToyGrid, tmp_path: Path
) -> None:
    rig = ruled(**BY_VO)
    Member(rig, alice_proxy).submit()
    pilot, key = Node(rig, pilot_proxy), make_key(KeyKind.RSA_2048)
    chain = pilot.retrieve(pilot.take(), key)
    assert openssl_says(chain, grid, tmp_path).endswith("leaf.pem: OK\n")
    assert we_say(chain, grid) == "OK"
    once = below(chain, key, 1)
    assert openssl_says(once.chain, grid, tmp_path).endswith("leaf.pem: OK\n")
    assert we_say(once.chain, grid) == "OK"
    assert isinstance(once.key, PrivateKey)
    twice = below(once.chain, once.key, 2)
    assert "path length" in openssl_says(twice.chain, grid, tmp_path).lower()
    assert we_say(twice.chain, grid) == "PROXY_PATH_LENGTH"


def test_a_limited_credential_stays_limited_under_a_policy_of_full_proxies(
    ruled: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = ruled(**{"retrieval.vo.demo": {"proxy": "full"}})
    Member(rig, alice_proxy, limited=True).submit()
    pilot = Node(rig, pilot_proxy)
    assert is_limited(pilot.retrieve(pilot.take())[0])


def test_a_path_length_is_never_more_than_the_stored_chain_allows(
    ruled: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = ruled(**{"retrieval.vo.demo": {"path_length": 5}})
    identity = load_identity(alice_proxy)
    owner, pilot = rig.client(identity), Node(rig, pilot_proxy)
    begun = owner.credentials.BeginDelegation(pb.BeginDelegationRequest(key_kind=pb.KEY_KIND_EC_P256))
    public = check_request(begun.certificate_request)
    life = datetime.timedelta(hours=10)
    proxy = sign_proxy(identity.chain, identity.key, public, lifetime=life, path_length=3, now=utc_now())
    request = pb.CompleteDelegationRequest(
        delegation_id=begun.delegation_id,
        chain=[vectors.der(proxy), *identity.chain_der],
        retrieval_key=b"k" * 32,
    )
    stored = owner.credentials.CompleteDelegation(request).credential
    submit(owner, Delegated(stored.credential_id, b"k" * 32, stored))
    assert path_length(pilot.retrieve(pilot.take())) == 2


def test_attributes_cannot_be_added_below_a_path_length_of_nought_and_the_pilot_is_told_so(
    ruled: Callable[..., Rig], plain_proxy: Path, pilot_proxy: Path, grid: ToyGrid
) -> None:
    for length, works in ((0, False), (1, True)):
        rig = ruled(**{"retrieval.plain": {"path_length": length}})
        Member(rig, plain_proxy).submit()
        pilot, key = Node(rig, pilot_proxy), make_key(KeyKind.RSA_2048)
        chain = pilot.retrieve(pilot.take(), key)
        rig.stop()
        identity, life = LocalIdentity(chain=chain, key=key, source="a pilot"), datetime.timedelta(hours=1)
        given = attributes(grid, end_entity(chain), "demo")
        if works:
            assert we_say(add_attributes(identity, given, lifetime=life, now=utc_now()).chain, grid) == "OK"
        else:
            with pytest.raises(PilotageError, match="PROXY_PATH_LENGTH"):
                add_attributes(identity, given, lifetime=life, now=utc_now())


def test_check_config_tells_a_mistake_of_the_policy_in_one_line(
    ruled: Callable[..., Rig], capsys: pytest.CaptureFixture[str]
) -> None:
    rig = ruled(**BY_VO)
    rig.stop()
    command = ["check-config", "--config", str(rig.config_path)]
    assert main(command) == 0
    capsys.readouterr()
    good = rig.config_path.read_text()
    for old, new, told in (
        ('"limited"', '"half"', "half"),
        ("path_length = 1", "path_length = -1", "retrieval.vo.demo.path_length: -1"),
        ("vo.demo", "vo.dmeo", "retrieval.vo.dmeo: server.voms_dir has no directory of this VO"),
    ):
        rig.config_path.write_text(good.replace(old, new))
        assert main(command) != 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pilotage-server: CONFIG_INVALID: ")
        assert told in line
