"""Translate a site's LCMAPS configuration into `helper.conf`."""

from pilotage_helper.lcmaps.database import Database, Problem, Problems, read_database
from pilotage_helper.lcmaps.flow import Flow, trace
from pilotage_helper.lcmaps.output import render, write_config
from pilotage_helper.lcmaps.translation import Translation, translate

__all__ = [
    "Database",
    "Flow",
    "Problem",
    "Problems",
    "Translation",
    "read_database",
    "render",
    "trace",
    "translate",
    "write_config",
]
