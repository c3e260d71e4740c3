"""Types of the cffi module, as far as pilotage_helper uses it."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, overload

class Pointer(Protocol):
    """Any C pointer or array; only handed back to the library."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Pointer: ...
    def __iter__(self) -> Iterator[Pointer]: ...

class COptions(Pointer, Protocol):
    ca_dir: Pointer
    voms_dir: Pointer
    host: Pointer
    at: int
    skew: int
    max_voms_seconds: int
    policy: int

class CIdentity(Pointer, Protocol):
    reason: int
    flags: int
    depth: int
    fqan_count: int
    not_before: int
    not_after: int
    voms_not_after: int
    leaf_key: Pointer
    eec: Pointer
    dn: Pointer
    issuer: Pointer
    vo: Pointer
    detail: Pointer
    fqan: Pointer

class CMapOptions(Pointer, Protocol):
    grid_mapfile: Pointer
    gridmapdir: Pointer
    ban_file: Pointer
    min_uid: int
    min_gid: int
    caller: int
    dry_run: int
    trust_any_owner: int

class CMapping(Pointer, Protocol):
    account: Pointer
    home: Pointer
    lease: Pointer
    uid: int
    gid: int
    ngroups: int
    groups: Sequence[int]
    detail: Pointer

class _Ffi:
    NULL: Pointer
    @overload
    def new(self, kind: Literal["struct pil_verify_options *"]) -> COptions: ...
    @overload
    def new(self, kind: Literal["struct pil_identity *"]) -> CIdentity: ...
    @overload
    def new(self, kind: Literal["struct pil_map_options *"]) -> CMapOptions: ...
    @overload
    def new(self, kind: Literal["struct pil_mapping *"]) -> CMapping: ...
    @overload
    def new(self, kind: Literal["char[]"], value: bytes) -> Pointer: ...
    def string(self, field: object) -> bytes: ...
    def buffer(self, field: object) -> bytes: ...
    def memmove(self, target: object, source: bytes, size: int) -> None: ...

class _Lib:
    PIL_INPUT_MAX: int
    PIL_FQAN_MAX: int
    PIL_NAME_SIZE: int
    PIL_DN_SIZE: int
    PIL_F_PROXY: int
    PIL_F_LIMITED: int
    PIL_F_KEY: int
    PIL_F_VOMS: int
    PIL_P_REQUIRE_CRL: int
    PIL_P_REQUIRE_KEY: int
    PIL_P_REQUIRE_PROXY: int
    PIL_P_REFUSE_LIMITED: int
    PIL_P_NO_SIGNING_POLICY: int
    def pil_verify_pem(self, options: COptions, data: bytes, size: int, who: CIdentity) -> int: ...
    def pil_verify_der(self, options: COptions, data: bytes, size: int, who: CIdentity) -> int: ...
    def pil_map(self, options: CMapOptions, who: CIdentity, mapping: CMapping) -> int: ...
    def pil_dn_equal(self, left: bytes, right: bytes) -> int: ...

ffi: _Ffi
lib: _Lib
