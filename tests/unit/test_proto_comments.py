"""The comment above each RPC says who may call it, whether it is idempotent, and which reasons it answers with."""

import re
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage_server.auth.policy import TABLE

PROTOS = sorted((Path(__file__).resolve().parents[2] / "protos" / "pilotage" / "v1").glob("*.proto"))
RPC = re.compile(r"((?:^ *//.*\n)*)^ *rpc (\w+)\(", re.MULTILINE)
SERVICE = re.compile(r"^service (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
COMMENTS = {
    f"/pilotage.v1.{service}/{method}": " ".join(comment.replace("//", " ").split())
    for path in PROTOS
    for service, body in SERVICE.findall(path.read_text())
    for comment, method in RPC.findall(body)
}


def test_every_method_was_found() -> None:
    assert set(COMMENTS) == {method for method in TABLE if not method.startswith("/grpc.")}


@pytest.mark.parametrize("method", sorted(COMMENTS))
def test_a_comment_says_caller_idempotence_and_reasons(method: str) -> None:
    comment = COMMENTS[method]
    assert re.search(r"\bCaller: [a-z]", comment)
    assert re.search(r"(?:^|\. )(?:Idempotent|Not idempotent)(?:[.:]| by request_id\.)", comment)
    reasons = re.search(r"\bReasons: (.+)\.$", comment)
    assert reasons is not None
    named = re.findall(r"\b([A-Z][A-Z0-9]*_[A-Z0-9_]*)(\*?)", reasons.group(1))
    assert named or "as RetrieveCredential" in reasons.group(1)
    for name, star in named:
        assert any(known == name or (star and known.startswith(name)) for known in Reason.__members__), name
