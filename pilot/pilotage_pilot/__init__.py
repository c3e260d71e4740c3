"""The Pilotage pilot and its payload wrapper."""
