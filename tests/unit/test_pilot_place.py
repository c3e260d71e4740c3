"""The pilot's configuration, private folder, log format and back-off."""

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest

from pilotage.errors import ConfigError, PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_pilot.config import load_config
from pilotage_pilot.lease import Lease
from pilotage_pilot.logs import FORMAT, OneLine
from pilotage_pilot.retry import Delays, retry
from pilotage_pilot.start import start
from pilotage_pilot.workspace import Workspace

GOOD = 'server = "grid.example.org:7643"\nca_dir = "/c"\nproxy = "/p"\nworkdir = "/w"\nsite = "TOY"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "pilot.toml"
    path.write_text(text)
    return path


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD))
    assert (config.slots, config.switch, config.proxy) == (1, "required", Path("/p"))
    assert config.worker_node


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "server"),
        (GOOD + "slot = 2\n", "slot"),
        (GOOD + "slots = 0\n", "slots"),
        (GOOD + 'slots = "2"\n', "slots"),
        (GOOD + 'switch = "optional"\n', "not built"),
        (GOOD + 'switch = "never"\n', "not built"),
        (GOOD + 'key_kind = "dsa"\n', "key_kind"),
        (GOOD.replace('"/w"', '"w"'), "workdir"),
        (GOOD.replace('"TOY"', '"a b"'), "site"),
        (GOOD + "max_log_bytes = 0\n", "max_log_bytes"),
        (GOOD + '[voms]\nvo = "demo"\n', "voms needs voms_dir"),
        (GOOD + 'voms_dir = "/v"\n[voms]\nvo = "demo"\nfqans = ["/other/Role=x"]\n', "voms"),
        (GOOD + 'voms_dir = "/v"\n[voms]\nvo = "a b"\n', "voms"),
        (GOOD + 'voms_dir = "/v"\n[voms]\nvo = "demo"\nvomses = "here"\n', "voms.vomses"),
        (GOOD + 'voms_dir = "/v"\n[voms]\nvo = "demo"\nfqan = "/demo"\n', "fqan"),
        (GOOD + 'voms_dir = "/v"\n' + '[[voms]]\nvo = "demo"\n' * 2, "each VO has one table"),
        (GOOD + f'voms_dir = "/v"\n[[voms]]\nvo = "{"v" * 60}"\n', "at most 59"),
        (GOOD + 'voms_dir = "/v"\n[[voms]]\nvo = "demo"\n[[voms]]\nvo = "a b"\n', "voms"),
        (GOOD + '[[voms]]\nvo = "demo"\n', "voms needs voms_dir"),
        (GOOD + 'voms = "demo"\n', "voms"),
        ("= 1\n", "pilot.toml"),
    ],
)
def test_a_wrong_file_is_refused_and_the_place_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert says in caught.value.message


def test_one_vo_or_several_are_told_in_one_way_each(tmp_path: Path) -> None:
    good = GOOD + 'voms_dir = "/v"\n'
    assert load_config(written(tmp_path, good)).vos == ()
    one = load_config(written(tmp_path, good + '[voms]\nvo = "demo"\nfqans = ["/demo/Role=a"]\n'))
    listed = load_config(written(tmp_path, good + '[[voms]]\nvo = "demo"\nfqans = ["/demo/Role=a"]\n'))
    assert one.vos == listed.vos
    assert [voms.fqans for voms in one.vos] == [("/demo/Role=a",)]


def test_a_job_is_served_by_the_table_of_the_vo_that_it_wants(tmp_path: Path) -> None:
    text = GOOD + 'voms_dir = "/v"\n[[voms]]\nvo = "demo"\nallow_subset = true\n[[voms]]\nvo = "other"\n'
    text += 'fqans = ["/other/Role=site"]\nallow_subset = true\nwait_seconds = 7\n'
    config = load_config(written(tmp_path, text))
    first = config.voms_for(())
    assert first is not None
    assert (first.vo, first.fqans, first.allow_subset) == ("demo", (), True)
    wished = config.voms_for(("/other/Role=job", "/other"))
    assert wished is not None
    assert (wished.vo, wished.fqans, wished.wait_seconds) == ("other", ("/other/Role=job", "/other"), 7)
    # Less than a job wants is not what it wants, whatever the site lets pass.
    assert not wished.allow_subset
    with pytest.raises(PilotageError, match="VOMSES_NOT_FOUND"):
        config.voms_for(("/third",))
    with pytest.raises(PilotageError, match="VOMSES_NOT_FOUND"):
        load_config(written(tmp_path, GOOD)).voms_for(("/demo",))
    assert load_config(written(tmp_path, GOOD)).voms_for(()) is None


def test_a_pilot_whose_vo_has_no_server_does_not_begin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vomses = tmp_path / "vomses"
    vomses.write_text('"other" "localhost" "15000" "/CN=voms" "other"\n')
    good = GOOD.replace('"/w"', f'"{tmp_path}/work"') + 'voms_dir = "/v"\n'
    config = written(tmp_path, f'{good}[voms]\nvo = "demo"\nvomses = "{vomses}"\n')
    assert start(config, probe_only=True) == 2
    assert "VOMSES_NOT_FOUND" in caplog.text
    assert not (tmp_path / "work").exists()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_config(tmp_path / "none.toml")


def test_the_workdir_is_private_and_held_by_one(tmp_path: Path) -> None:
    root = tmp_path / "work"
    with Workspace(root):
        assert root.stat().st_mode & 0o777 == 0o700
        with pytest.raises(PilotageError, match="another pilot works in it"):
            Workspace(root)
    with Workspace(root):
        pass


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_workdir_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "work"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(PilotageError) as caught:
        Workspace(root)
    assert caught.value.reason is Reason.WORKSPACE_UNUSABLE


def test_a_link_is_no_workdir(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "work").symlink_to("real")
    with pytest.raises(PilotageError, match="must be a folder"):
        Workspace(tmp_path / "work")


def test_what_a_dead_predecessor_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "work" / "attempts" / "a-old"
    left.mkdir(parents=True, mode=0o700)
    (tmp_path / "work").chmod(0o700)
    (left / "proxy").write_text("secret")
    (left / "link").symlink_to(tmp_path)
    with Workspace(tmp_path / "work") as workspace:
        assert workspace.sweep() == 1
        assert not left.exists()
        assert workspace.sweep() == 0
    assert tmp_path.exists()


def test_an_attempts_folder_goes_with_the_attempt_on_every_way_out(tmp_path: Path) -> None:
    with Workspace(tmp_path / "work") as workspace:
        workspace.sweep()
        with contextlib.suppress(RuntimeError), workspace.attempt() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "proxy").write_text("secret")
            raise RuntimeError
        assert not folder.exists()


def test_a_log_line_is_one_line_whatever_is_in_it() -> None:
    record = logging.LogRecord("pilot", logging.INFO, "f", 1, "DN %s", ("/CN=a\nb\x1b[31m",), None, "run")
    line = OneLine(FORMAT, datefmt="%Y-%m-%d %H:%M:%S").format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    assert line.count(" | ") == 4


def test_a_lease_does_not_print_its_token_and_key() -> None:
    lease = Lease("l", "j", 1, "/CN=a", ("x",), {}, "", (), 1, 0, 0, 1.0, Secret("eyJtoken"), Secret("key-bytes"))
    assert "eyJ" not in repr(lease)
    assert "key-bytes" not in repr(lease)


def test_pauses_double_to_the_cap_and_begin_anew() -> None:
    pauses = Delays(1, 8, lambda: 1.0)
    assert [next(pauses) for _ in range(5)] == [1, 2, 4, 8, 8]
    pauses.reset()
    assert next(pauses) == 1
    assert next(Delays(1, 8, lambda: 0.0)) == 0.5


class Flaky:
    """Fails some times, then answers."""

    def __init__(self, *reasons: Reason) -> None:
        self.left = list(reasons)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.left:
            raise refuse(self.left.pop(0))
        return "answer"


def test_what_passes_is_tried_again() -> None:
    call = Flaky(Reason.UNAVAILABLE)
    assert asyncio.run(retry("x", call, for_seconds=10)) == "answer"
    assert call.calls == 2


def test_what_does_not_pass_is_not_tried_again() -> None:
    call = Flaky(Reason.LEASE_EXPIRED)
    with pytest.raises(PilotageError, match="LEASE_EXPIRED"):
        asyncio.run(retry("x", call, for_seconds=10))
    assert call.calls == 1


def test_patience_ends() -> None:
    with pytest.raises(PilotageError, match="UNAVAILABLE"):
        asyncio.run(retry("x", Flaky(*[Reason.UNAVAILABLE] * 9), for_seconds=0.1))
