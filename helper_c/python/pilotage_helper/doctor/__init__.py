"""What this machine lacks for the helper, in plain words, and what is weaker then."""

from pilotage_helper.doctor.examine import examine
from pilotage_helper.doctor.finding import Finding, State, worst

__all__ = ["Finding", "State", "examine", "worst"]
