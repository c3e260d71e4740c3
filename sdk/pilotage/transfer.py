"""Sandboxes over the wire: in pieces, and proven by their digest."""

import hashlib
from collections.abc import Iterator
from typing import IO

import grpc

from pilotage.errors import refuse
from pilotage.interceptors import is_stale
from pilotage.reasons import Reason
from pilotage.v1 import job_pb2
from pilotage.v1.job_pb2_grpc import JobServiceStub

PIECE_BYTES = 256 * 1024
LARGEST_DOWNLOAD_BYTES = 16 * 1024**3
TRANSFER_SECONDS = 3600.0


def upload(stub: JobServiceStub, file: IO[bytes], sha256: str, size_bytes: int) -> str:
    """Store an archive; a refused session is replaced once, from the archive's first byte."""
    for last in (False, True):
        try:
            return stub.UploadSandbox(_pieces(file, sha256, size_bytes), timeout=TRANSFER_SECONDS).sha256
        except grpc.RpcError as error:
            if last or not is_stale(error):
                raise
    raise AssertionError("the loop above returns or raises")


def download(stub: JobServiceStub, sha256: str, out: IO[bytes]) -> int:
    """Fetch an archive into a file and see that it is the one that was asked for."""
    for last in (False, True):
        out.seek(0)
        out.truncate()
        try:
            return _receive(stub, sha256, out)
        except grpc.RpcError as error:
            if last or not is_stale(error):
                raise
    raise AssertionError("the loop above returns or raises")


def _pieces(file: IO[bytes], sha256: str, size_bytes: int) -> Iterator[job_pb2.UploadSandboxRequest]:
    yield job_pb2.UploadSandboxRequest(header=job_pb2.SandboxHeader(sha256=sha256, size_bytes=size_bytes))
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        yield job_pb2.UploadSandboxRequest(data=piece)


def _receive(stub: JobServiceStub, sha256: str, out: IO[bytes]) -> int:
    digest, size = hashlib.sha256(), 0
    request = job_pb2.DownloadSandboxRequest(sha256=sha256)
    stream = stub.DownloadSandbox(request, timeout=TRANSFER_SECONDS)
    for answer in stream:
        size += len(answer.data)
        if size > LARGEST_DOWNLOAD_BYTES:
            stream.cancel()
            raise refuse(Reason.SANDBOX_TOO_LARGE, f"The server sends more than {LARGEST_DOWNLOAD_BYTES} bytes.")
        digest.update(answer.data)
        out.write(answer.data)
    if digest.hexdigest() != sha256:
        raise refuse(Reason.SANDBOX_DIGEST_MISMATCH)
    return size
