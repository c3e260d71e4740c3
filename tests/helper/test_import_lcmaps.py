"""`pilotage-helper import-lcmaps` translates a site's LCMAPS policy, or says line by line what it cannot."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pilotage_helper import check_maps, read_site
from pilotage_helper.cli import main

SITE = "/etc/grid-security"
MODULES = f"""\
# where the modules are
path = /usr/lib64/lcmaps

# Plug-in definitions:
verify_proxy     = "lcmaps_verify_proxy.mod"
                   "-certdir {SITE}/certificates/"
                   "--allow-limited-proxy"
ban_dn           = "lcmaps_ban_dn.mod" "-banmapfile {SITE}/ban_users.db"
ban_fqan         = "lcmaps_ban_fqan.mod" "-banmapfile {SITE}/ban_fqans.db"
vomslocalgroup   = "lcmaps_voms_localgroup.mod"
                   "-groupmapfile {SITE}/groupmapfile"
                   "-mapmin 0"
vomspoolaccount  = "lcmaps_voms_poolaccount.mod"
                   "-gridmapfile {SITE}/voms-mapfile"
                   "-gridmapdir {SITE}/gridmapdir"
vomslocalaccount = "lcmaps_voms_localaccount.mod"
                   "-gridmapfile {SITE}/voms-mapfile"
                   "--use-voms-gid"
localaccount     = "lcmaps_localaccount.mod"
                   "-gridmapfile {SITE}/grid-mapfile"
poolaccount      = "lcmaps_poolaccount.mod"
                   "-gridmapfile {SITE}/grid-mapfile" "-gridmapdir {SITE}/gridmapdir"
posix_enf        = "lcmaps_posix_enf.mod"
                   "-maxuid 1" "-maxpgid 1" "-maxsgid 32"
good             = "lcmaps_dummy_good.mod"
bad              = "lcmaps_dummy_bad.mod"
"""
GLEXEC = """\
# Mapping policies:
glexec_get_account:
verify_proxy -> vomslocalgroup
vomslocalgroup -> vomspoolaccount
vomspoolaccount -> posix_enf | localaccount
localaccount -> posix_enf | poolaccount
poolaccount -> posix_enf
"""
PLAIN = f"grid_mapfile = {SITE}/grid-mapfile"
LIMITED = "limited_proxies = accept"


class Import:
    """One database and what became of it."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "lcmaps.db"
        self.output = folder / "helper.conf"

    def run(self, text: str | bytes, *words: str) -> Result:
        """Translate the text."""
        self.database.write_bytes(text.encode() if isinstance(text, str) else text)
        return CliRunner().invoke(main, ["import-lcmaps", str(self.database), *words])

    def section(self, text: str, *words: str) -> list[str]:
        """Translate modules and policy; return the lines of [map], which the helper takes."""
        done = self.run(text, *words)
        assert done.exit_code == 0, done.stderr
        lines = done.stdout.splitlines()
        start = lines.index("[map]") + 1
        return lines[start : lines.index("", start)]

    def refused(self, text: str | bytes, *words: str) -> str:
        """Return why it cannot be translated; nothing was written."""
        done = self.run(text, "--output", str(self.output), *words)
        assert done.exit_code != 0
        assert (done.stdout, self.output.exists()) == ("", False)
        assert sorted(path.name for path in self.database.parent.iterdir()) == ["lcmaps.db"]
        return done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Import:
    return Import(tmp_path)


def test_the_policy_that_glexec_came_with(site: Import) -> None:
    done = site.run(MODULES + GLEXEC)
    assert f"ca_dir = {SITE}/certificates\n" in done.stdout
    assert LIMITED in done.stdout
    assert site.section(MODULES + GLEXEC) == [
        PLAIN,
        f"voms_mapfile = {SITE}/voms-mapfile",
        f"gridmapdir = {SITE}/gridmapdir",
        "lease_names = lcmaps",
        f"groupmapfile = {SITE}/groupmapfile",
        "policy = fqan-pool groups fqan require-primary, dn-account groups both, dn-pool groups both",
    ]


REALISTIC = {
    "DN only": ("p:\nlocalaccount -> posix_enf | poolaccount\npoolaccount -> posix_enf\n", "dn-account, dn-pool"),
    "VOMS only": (
        "p:\nverify_proxy -> vomslocalgroup\nvomslocalgroup -> vomslocalaccount\n"
        "vomslocalaccount -> good | vomspoolaccount\nvomspoolaccount -> good\n",
        "fqan-account groups fqan require-primary, fqan-pool groups fqan require-primary",
    ),
    "two policies, one after the other": (
        "voms:\nvomslocalgroup -> vomspoolaccount\nvomspoolaccount -> good\n\ndns:\nlocalaccount -> good\n",
        "fqan-pool groups fqan require-primary, dn-account",
    ),
    "no attributes are no failure": (
        "p:\nvomslocalgroup -> vomspoolaccount | localaccount\n"
        "vomspoolaccount -> posix_enf | localaccount\nlocalaccount -> posix_enf\n",
        "fqan-pool groups fqan require-primary, dn-account groups both",
    ),
    "a failure that is wanted": ("p:\n~localaccount -> poolaccount\n", "dn-account, dn-pool"),
    "constants": ("p:\ngood -> bad\nbad -> posix_enf | localaccount\n", "dn-account"),
}


@pytest.mark.parametrize("name", REALISTIC)
def test_policies_of_sites(site: Import, name: str) -> None:
    rules, policy = REALISTIC[name]
    assert f"policy = {policy}" in site.section(MODULES + rules)


def test_bans_are_for_everybody_and_come_first(site: Import) -> None:
    rules = "p:\nverify_proxy -> ban_dn\nban_dn -> ban_fqan\nban_fqan -> localaccount\nlocalaccount -> posix_enf\n"
    assert site.section(MODULES + rules) == [
        f"ban_file = {SITE}/ban_users.db",
        f"second_ban_file = {SITE}/ban_fqans.db",
        PLAIN,
        "policy = dn-account",
    ]
    one = MODULES.replace("ban_fqans.db", "ban_users.db")
    assert "second_ban_file" not in site.run(one + rules).stdout
    half = rules + "q:\npoolaccount -> posix_enf\n"
    assert "poolaccount is not under the bans of localaccount" in site.refused(MODULES + half)


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ("--allow-limited-proxy", [LIMITED]),
        ("", [LIMITED]),
        ("--disallow-limited-proxy", ["limited_proxies = refuse"]),
        ("--max-voms-ttl 1d-12:30", ["max_voms_lifetime_seconds = 131400"]),
        ("--max-voms-ttl 12:00", ["max_voms_lifetime_seconds = 43200"]),
        ("--max-proxy-level-ttl=L 2d-13:37", ["max_proxy_lifetime_seconds = 221820"]),
        ("--max-proxy-level-ttl@l 0d-01:00", ["max_proxy_lifetime_seconds = 3600"]),
        ("-cadir certs", [f"ca_dir = {SITE}/certs"]),
        ("--never_discard_private_key_absence --discard_private_key_absence", [LIMITED]),
        ("--discard_private_key_absence", ["# Differs: a proxy without its private key is refused."]),
    ],
)
def test_what_a_proxy_must_be(site: Import, options: str, lines: list[str]) -> None:
    verify = f'verify = "lcmaps_verify_proxy.mod" "{options}"\n'
    la = f'la = "/usr/lib/lcmaps/lcmaps_localaccount.mod" "-gridmapfile {SITE}/grid-mapfile"\n'
    done = site.run(f"{verify}{la}p:verify->la")
    assert done.exit_code == 0, done.stderr
    assert set(lines) <= set(done.stdout.splitlines())


REFUSED = {
    "LDAP": (
        'x = "lcmaps_ldap_enf.mod" "-maxuid 1"\n',
        "p:\nlocalaccount -> x\n",
        "line 27: x is lcmaps_ldap_enf: nothing",
    ),
    "the job repository": ('x = "lcmaps_jobrep.mod"\n', "p:\nlocalaccount -> x\n", "line 27: x is lcmaps_jobrep"),
    "SCAS": (
        'x = "lcmaps_scas_client.mod" "-e"\n',
        "p:\nx -> posix_enf\n",
        "line 27: x is lcmaps_scas_client: no service",
    ),
    "Argus": ('x = "lcmaps_c_pep.mod"\n', "p:\nx -> posix_enf | localaccount\n", "(Argus)"),
    "pools of groups": ('x = "lcmaps_voms_poolgroup.mod"\n', "p:\nx -> localaccount\n", "no pools of groups"),
    "an unknown plug-in": (
        'x = "lcmaps_ours.mod"\n',
        "p:\nlocalaccount -> x\n",
        "x is lcmaps_ours: the plug-in is not known",
    ),
    "an unknown option": (
        'x = "lcmaps_localaccount.mod -y"\n',
        "p:\nx -> good\n",
        "line 27: x (lcmaps_localaccount): option -y",
    ),
    "all attributes mapped": (
        f'x = "lcmaps_voms_localgroup.mod" "-groupmapfile {SITE}/g" "-mapall"\n',
        "p:\nx -> vomspoolaccount\n",
        "line 27: x (lcmaps_voms_localgroup): attributes without a group",
    ),
    "only secondary groups": (
        f'x = "lcmaps_voms_localgroup.mod" "-groupmapfile {SITE}/g" "--map-to-secondary-groups"\n',
        "p:\nx -> vomspoolaccount\n",
        "always the primary one",
    ),
    "a pool account without groups": ("", "p:\nvomspoolaccount -> good\n", "has all groups of its account"),
    "half of the account's groups": (
        f'x = "lcmaps_voms_poolaccount.mod" "-gridmapfile {SITE}/v" "-gridmapdir {SITE}/d"'
        ' "--add-primary-gid-from-mapped-account"\n',
        "p:\nvomslocalgroup -> x\n",
        "all or not at all",
    ),
    "several accounts for one": (
        f'x = "lcmaps_poolaccount.mod" "-gridmapdir {SITE}/d" "-max_mappings_per_credential 3"\n',
        "p:\nx -> good\n",
        "one account of a pool",
    ),
    "no directory of leases": ('x = "lcmaps_poolaccount.mod"\n', "p:\nx -> good\n", "say --gridmapdir"),
    "two directories of leases": (
        f'x = "lcmaps_poolaccount.mod" "-gridmapdir {SITE}/other"\n',
        "p:\npoolaccount -> good | x\nx -> good\n",
        "gridmapdir is /etc/grid-security/gridmapdir elsewhere",
    ),
    "limited proxies only": (
        'x = "lcmaps_verify_proxy.mod --require-limited-proxy"\n',
        "p:\nx -> localaccount\n",
        "limited",
    ),
    "the life of the first proxy": (
        'x = "lcmaps_verify_proxy.mod" "--max-proxy-level-ttl=0 14d-00:00"\n',
        "p:\nx -> localaccount\n",
        "not that of one proxy",
    ),
    "a period that is none": (
        'x = "lcmaps_verify_proxy.mod" "--max-voms-ttl 25:00"\n',
        "p:\nx -> localaccount\n",
        "25:00 is no period",
    ),
    "effective ids": ('x = "lcmaps_posix_enf.mod" "-set_only_euid yes"\n', "p:\nlocalaccount -> x\n", "effective"),
    "a mapping of what does not verify": (
        "",
        "p:\nverify_proxy -> localaccount | poolaccount\n",
        "line 28: what follows when",
    ),
    "other accounts without attributes": (
        "",
        "p:\nvomslocalgroup -> vomspoolaccount | localaccount\nvomspoolaccount -> posix_enf\n",
        "without attributes vomslocalgroup leads to other accounts",
    ),
    "an account after an account": ("", "p:\nlocalaccount -> poolaccount\n", "comes after an account was found"),
    "no account at all": ("", "p:\nverify_proxy -> good\n", "can end well at good"),
    "a switch without an account": ("", "p:\nposix_enf -> localaccount\n", "before any account"),
    "a ban after failing": ("", "p:\n~ban_dn -> localaccount\n", "can end well at ban_dn, without an account"),
    "an unknown name": ("", "p:\nlocalaccount -> x\n", "line 28: x is not defined"),
    "a circle": ("", "p:\nlocalaccount -> good\ngood -> localaccount\n", "policy p comes back to"),
    "a rule that nothing leads to": ("", "p:\nlocalaccount -> good\nbad -> good\n", "nothing leads to bad"),
    "two rules for one": ("", "p:\nlocalaccount -> good\n~localaccount -> poolaccount\n", "has a rule on line"),
    "no policy": ("", "", "there is no policy"),
    "a policy without rules": ("", "p:\n", "policy p has no rule"),
    "a definition twice": ('good = "lcmaps_dummy_good.mod"\n', "p:\nlocalaccount -> good\n", "good is defined twice"),
    "an empty definition": ('x = " "\n', "p:\nlocalaccount -> good\n", "x is defined as nothing"),
    "an open string": ('x = "lcmaps\n', "p:\nlocalaccount -> good\n", "cannot stand here"),
    "no arrow": ("", "p:\n~ localaccount good\n", "-> is missing after localaccount"),
    "a path with a comma": ('x = "lcmaps_localaccount.mod -gridmapfile /a,b"\n', "p:\nx -> good\n", "cannot have"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_like_is_told_with_its_line(site: Import, name: str) -> None:
    module, rules, words = REFUSED[name]
    assert words in site.refused(MODULES + module + rules)


def test_every_problem_is_told_at_once(site: Import) -> None:
    more = 'x = "lcmaps_jobrep.mod"\ny = "lcmaps_localaccount.mod" "-z"\n'
    said = site.refused(MODULES + more + "p:\ny -> good | x\n")
    assert "line 27: x is lcmaps_jobrep: " in said
    assert "line 28: y (lcmaps_localaccount): option -z" in said
    said = site.refused(MODULES + more + "p:\nlocalaccount -> a | b\n")
    assert "a is not defined; line 30: b is not defined" in said


def test_a_policy_is_chosen_by_its_name(site: Import) -> None:
    rules = "get:\nlocalaccount -> good\nverify:\npoolaccount -> good\n"
    assert "policy = dn-pool" in site.section(MODULES + rules, "--policy", "verify")
    assert "there is no policy other; there are get, verify" in site.refused(MODULES + rules, "--policy", "other")


def test_a_directory_of_leases_can_be_given(site: Import) -> None:
    text = 'x = "lcmaps_poolaccount.mod" "-gridmapfile grid-mapfile"\np:\n~x -> y\ny = "lcmaps_dummy_bad.mod"\n'
    made = site.section(text, "--gridmapdir", "/var/leases")
    assert made == [PLAIN, "gridmapdir = /var/leases", "lease_names = lcmaps", "policy = dn-pool"]


# the file


def test_it_is_written_whole_and_the_helper_reads_it(site: Import) -> None:
    done = site.run(MODULES + GLEXEC, "--output", str(site.output), "--json")
    assert json.loads(done.stdout)["config"] == str(site.output)
    assert stat.S_IMODE(site.output.stat().st_mode) == 0o644
    read = read_site(site.output, any_owner=True)
    assert (read.callers, read.refuse_limited) == ((), False)
    assert site.output.read_text() == site.run(MODULES + GLEXEC).stdout.rstrip("\n") + "\n"
    assert len(list(site.output.parent.iterdir())) == 2


def test_what_is_there_is_not_replaced_unless_it_is_asked_for(site: Import) -> None:
    site.output.write_text("mine")
    done = site.run(MODULES + GLEXEC, "--output", str(site.output))
    assert "is there already" in done.stderr
    assert (done.exit_code != 0, site.output.read_text()) == (True, "mine")
    site.run(MODULES + "p:\nx -> y\n", "--output", str(site.output), "--force")
    assert site.output.read_text() == "mine"
    assert site.run(MODULES + GLEXEC, "--output", str(site.output), "--force").exit_code == 0
    assert "policy =" in site.output.read_text()


def test_a_symbolic_link_is_something_that_is_there(site: Import) -> None:
    site.output.symlink_to("elsewhere")
    assert "is there already" in site.run(MODULES + GLEXEC, "--output", str(site.output)).stderr
    assert site.output.is_symlink()


@pytest.mark.parametrize("where", ["none/helper.conf", "lcmaps.db/helper.conf"])
def test_a_folder_that_cannot_be_written_is_told(site: Import, where: str) -> None:
    path = site.output.parent / where
    assert "cannot be written" in site.run(MODULES + GLEXEC, "--output", str(path)).stderr


def test_the_name_of_the_database_cannot_add_lines(site: Import) -> None:
    site.database = site.database.with_name("a\n[caller x].db")
    assert "\n[caller x]" not in site.run(MODULES + GLEXEC).stdout


def test_an_imported_configuration_maps_once_its_files_are_there(site: Import, tmp_path: Path) -> None:
    (tmp_path / "grid-mapfile").write_text('"/O=x/CN=a" daemon\n')
    text = (
        f'x = "lcmaps_localaccount.mod" "-gridmapfile {tmp_path}/grid-mapfile"\np:\n~x -> y\ny="lcmaps_dummy_bad.mod"'
    )
    assert site.run(text, "--output", str(site.output)).exit_code == 0
    check_maps(read_site(site.output, any_owner=True))
