"""Jobs, leases, brokerage, sandboxes and logs."""
