"""Types of the cffi module, as far as pilotage_helper uses it."""

from collections.abc import Callable, Iterator, MutableSequence, Sequence
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
    max_proxy_seconds: int
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

class CCache(Pointer, Protocol): ...

class CCacheState(Pointer, Protocol):
    hits: int
    kept: int
    changed: int
    evicted: int
    entries: int
    bytes: int

class CMapConfig(Pointer, Protocol): ...

class CMapRequest(Pointer, Protocol):
    flags: int
    min_uid: int
    min_gid: int
    caller: int
    caller_gid: int
    verifier_uid: int
    verifier_gid: int
    at: int
    accounts: Pointer
    expect: Pointer
    command: Pointer
    who: CIdentity

class CMapping(Pointer, Protocol):
    account: Pointer
    home: Pointer
    lease: Pointer
    uid: int
    gid: int
    ngroups: int
    groups: Sequence[int]
    detail: Pointer

class CMapRecord(Pointer, Protocol):
    reason: int
    map: CMapping

class CCaller(Pointer, Protocol):
    name: Pointer
    accounts: Pointer

class CCallers(Pointer, Protocol):
    def __getitem__(self, index: int) -> CCaller: ...
    def __add__(self, index: int) -> CCaller: ...

class CConfig(Pointer, Protocol):
    ca_dir: Pointer
    voms_dir: Pointer
    verify_user: Pointer
    min_uid: int
    min_gid: int
    clock_skew: int
    max_proxy_life: int
    max_voms_life: int
    require_crl: int
    refuse_limited: int
    accept_old: int
    no_new_privs: int
    log_only: int
    cgroup: int
    namespaces: int
    bounds: Sequence[int]
    cgroup_parent: Pointer
    audit_file: Pointer
    ncallers: int
    callers: CCallers

class _Ffi:
    NULL: Pointer
    @overload
    def new(self, kind: Literal["struct pil_verify_options *"]) -> COptions: ...
    @overload
    def new(self, kind: Literal["struct pil_identity *"]) -> CIdentity: ...
    @overload
    def new(self, kind: Literal["struct pil_cache_state *"]) -> CCacheState: ...
    @overload
    def new(self, kind: Literal["uint64_t *"]) -> MutableSequence[int]: ...
    @overload
    def new(self, kind: Literal["struct pil_map_config *"]) -> CMapConfig: ...
    @overload
    def new(self, kind: Literal["struct pil_map_request *"]) -> CMapRequest: ...
    @overload
    def new(self, kind: Literal["struct pil_map_record *"]) -> CMapRecord: ...
    @overload
    def new(self, kind: Literal["struct config *"]) -> CConfig: ...
    @overload
    def new(self, kind: Literal["char[]"], value: bytes) -> Pointer: ...
    def gc(self, value: CCache, destructor: Callable[[CCache], None]) -> CCache: ...
    def string(self, field: object) -> bytes: ...
    def buffer(self, field: object) -> bytes: ...
    def addressof(self, value: Pointer, field: str) -> Pointer: ...
    def sizeof(self, value: object) -> int: ...
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
    PIL_P_ACCEPT_OLD: int
    def pil_verify_pem(self, options: COptions, data: bytes, size: int, who: CIdentity) -> int: ...
    def pil_verify_der(self, options: COptions, data: bytes, size: int, who: CIdentity) -> int: ...
    def pil_namespaces_fault(self, text: bytes, size: int) -> int: ...
    def pil_cache_new(self, options: COptions, entries: int, size: int) -> CCache: ...
    def pil_cache_free(self, cache: CCache) -> None: ...
    def pil_cache_find(self, cache: CCache, data: bytes, size: int, at: int) -> int: ...
    def pil_cache_verify(
        self, cache: CCache, data: bytes, size: int, at: int, who: CIdentity, ticket: MutableSequence[int]
    ) -> int: ...
    def pil_cache_look(self, cache: CCache, state: CCacheState) -> None: ...
    PIL_DETAIL_SIZE: int
    PIL_M_DRY_RUN: int
    def pil_map_request_init(self, request: CMapRequest) -> int: ...
    def pil_map_config_load(self, config: CMapConfig, path: Pointer, any_owner: int, detail: Pointer) -> int: ...
    def pil_map_check_files(self, config: CMapConfig, detail: Pointer) -> int: ...
    def pil_map_answer(
        self, config: CMapConfig, broken: int, why: Pointer, request: CMapRequest, record: CMapRecord
    ) -> int: ...
    def pil_map_record_check(self, record: CMapRecord, received: int, request: CMapRequest) -> int: ...
    def config_load(self, config: CConfig, path: Pointer, any_owner: int, detail: Pointer) -> int: ...
    def bounds_owner(self, caller: CCaller, who: Pointer, detail: Pointer) -> int: ...
    def pil_dn_equal(self, left: bytes, right: bytes) -> int: ...

ffi: _Ffi
lib: _Lib
