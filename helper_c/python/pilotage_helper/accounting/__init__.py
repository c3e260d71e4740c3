"""Accounting records of the helper's audit files, and their export."""

from pilotage_helper.accounting.apel import Message, Place, messages
from pilotage_helper.accounting.reader import Reader, Tally
from pilotage_helper.accounting.record import Record, State
from pilotage_helper.accounting.tables import csv_lines, json_lines

__all__ = ["Message", "Place", "Reader", "Record", "State", "Tally", "csv_lines", "json_lines", "messages"]
