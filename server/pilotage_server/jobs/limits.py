"""What the service allows, and how long leases last. The configuration fills these in."""

import msgspec

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4


class JobLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest of everything, and what a job that does not say gets."""

    sandbox_bytes: int = 64 * MIB
    output_bytes: int = 256 * MIB
    unpacked_bytes: int = 4 * GIB
    sandbox_members: int = 20_000
    log_bytes: int = 16 * MIB
    jobs_per_submit: int = 1000
    queued_jobs_per_owner: int = 100_000
    cores: int = 256
    memory_bytes: int = TIB
    disk_bytes: int = 16 * TIB
    wall_seconds: int = 7 * 86400
    default_wall_seconds: int = 3600
    max_attempts: int = 10
    default_attempts: int = 3
    priority: int = 100
    name_characters: int = 256
    command_words: int = 4096
    command_bytes: int = 128 * KIB
    environment_entries: int = 256
    environment_bytes: int = 128 * KIB
    outputs: int = 256
    tags: int = 32
    credential_margin_seconds: int = 600
    overtime_seconds: int = 6 * 3600
    """How long after its wall time a lease still gets credential tokens: for preparing, collecting and renewals."""
    slots_per_pilot: int = 1024
    pilots_per_key: int = 200_000
    """Pilots that are registered with one DN and key: a robot may send the same proxy to every node of 130 sites."""


class LeaseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long a lease lives unreported (`sent`), between reports (`lease`), and what pilots are told."""

    sent_seconds: float = 90
    lease_seconds: float = 180
    heartbeat_seconds: float = 20
    sweep_seconds: float = 5
    retry_seconds: float = 5
    longest_wait_seconds: float = 30
