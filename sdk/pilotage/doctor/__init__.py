"""Look at everything a client would use, and say what is wrong with it and what to type next."""

from pilotage.doctor.examine import Patient, examine
from pilotage.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "Patient", "examine"]
