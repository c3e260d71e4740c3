"""The Pilotage server: jobs, pilots, credentials, login."""
