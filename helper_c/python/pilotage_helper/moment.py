"""Points of time on the command line."""

from datetime import UTC, datetime

import click


class Moment(click.ParamType[datetime]):
    """ISO 8601 (without a zone it is UTC) or Unix seconds."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return an aware time after 1970."""
        try:
            moment = datetime.fromtimestamp(int(value), UTC) if value.isdigit() else datetime.fromisoformat(value)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is neither ISO 8601 nor Unix seconds", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if moment.timestamp() < 1:
            self.fail(f"{value!r} is before 1970", param, ctx)
        return moment
