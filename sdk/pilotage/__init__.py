"""Pilotage: pilot jobs that run every payload as its owner."""
