"""A helper.conf with files of its own, mapped by `pilotage-helper` in this process, as anybody."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from pilotage_helper import VerifyOptions
from pilotage_helper.cli import main

HELPER = """\
[helper]
ca_dir = {options.ca_dir}
voms_dir = {options.voms_dir}
verify_user = nobody
min_uid = 1
min_gid = 1
"""


class Site:
    """A configuration of one's own, with one's own files."""

    def __init__(self, options: VerifyOptions, root: Path, proxy: Path) -> None:
        self.root = root
        self.proxy = proxy
        self.options = options
        self.config = root / "helper.conf"
        self.mapfile = root / "grid-mapfile"
        self.map('"/demo" daemon\n')
        self.configure()

    def map(self, text: str) -> None:
        """Write the grid-mapfile."""
        self.mapfile.write_text(text)

    def file(self, key: str, text: str) -> str:
        """Write another file of the site; return the line of [map] that names it."""
        path = self.root / key
        path.write_text(text + "\n")
        return f"{key} = {path}"

    def configure(
        self, mapping: str = "", callers: str = "[caller nobody]\nvos = demo\naccounts = *\n", more: str = ""
    ) -> None:
        """Write helper.conf; `mapping` goes into [map], `more` into [helper]."""
        text = HELPER.format(options=self.options)
        self.config.write_text(f"{text}{more}\n[map]\ngrid_mapfile = {self.mapfile}\n{mapping}\n{callers}")

    def run(self, *words: str) -> Result:
        """Map the proxy."""
        return CliRunner().invoke(main, ["map", "--config", str(self.config), *words, str(self.proxy)])

    def answer(self, *words: str) -> dict[str, object]:
        """Map the proxy and read the JSON."""
        answer = json.loads(self.run("--json", *words).stdout)
        assert isinstance(answer, dict)
        return answer

    def check(self, *words: str) -> Result:
        """Check the configuration."""
        return CliRunner().invoke(main, ["check-config", *words, str(self.config)])
