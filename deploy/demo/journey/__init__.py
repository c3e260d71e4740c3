"""The demo's journey: accounts, world, services, the owners' commands, what is left behind, the report."""
