"""Times on the wire."""

import datetime

from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from pilotage_server.rpc.values import moment, timestamp

ZONES = st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=5, minutes=45))])


@given(st.datetimes(datetime.datetime(1, 1, 3), datetime.datetime(9999, 12, 29), timezones=ZONES))
def test_a_time_on_the_wire_is_protobufs_own_and_comes_back(when: datetime.datetime) -> None:
    theirs = timestamp_pb2.Timestamp()
    theirs.FromDatetime(when)
    assert timestamp(when) == theirs
    assert moment(timestamp(when)) == when
