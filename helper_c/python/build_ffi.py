"""Declare the C library's face for cffi; setup.py adds the static library itself."""

from cffi import FFI

ffi = FFI()
ffi.cdef("""
    #define PIL_DN_SIZE 1024
    #define PIL_NAME_SIZE 256
    #define PIL_FQAN_MAX 256
    #define PIL_DETAIL_SIZE 256
    #define PIL_INPUT_MAX 262144
    #define PIL_F_PROXY 0x01
    #define PIL_F_LIMITED 0x02
    #define PIL_F_KEY 0x04
    #define PIL_F_VOMS 0x08
    #define PIL_P_REQUIRE_CRL 0x01
    #define PIL_P_REQUIRE_KEY 0x02
    #define PIL_P_REQUIRE_PROXY 0x04
    #define PIL_P_REFUSE_LIMITED 0x08
    #define PIL_P_NO_SIGNING_POLICY 0x10
    #define PIL_P_ACCEPT_OLD 0x20

    struct pil_verify_options {
        const char *ca_dir;
        const char *voms_dir;
        const char *host;
        int64_t at;
        int32_t skew;
        int64_t max_voms_seconds;
        int64_t max_proxy_seconds;
        uint32_t policy;
    };

    struct pil_identity {
        int32_t reason;
        uint32_t flags;
        uint32_t depth;
        uint32_t fqan_count;
        int64_t not_before;
        int64_t not_after;
        int64_t voms_not_after;
        uint8_t leaf_key[32];
        uint8_t eec[32];
        char dn[PIL_DN_SIZE];
        char issuer[PIL_DN_SIZE];
        char vo[PIL_NAME_SIZE];
        char detail[PIL_DETAIL_SIZE];
        char fqan[PIL_FQAN_MAX][PIL_NAME_SIZE];
    };

    int pil_verify_pem(const struct pil_verify_options *, const void *, size_t, struct pil_identity *);
    int pil_verify_der(const struct pil_verify_options *, const void *, size_t, struct pil_identity *);
    unsigned pil_namespaces_fault(const char *, size_t);

    struct pil_cache;

    struct pil_cache_state {
        uint64_t hits;
        uint64_t kept;
        uint64_t changed;
        uint64_t evicted;
        uint64_t entries;
        uint64_t bytes;
    };

    struct pil_cache *pil_cache_new(const struct pil_verify_options *, uint32_t, size_t);
    void pil_cache_free(struct pil_cache *);
    uint64_t pil_cache_find(struct pil_cache *, const void *, size_t, int64_t);
    int pil_cache_verify(struct pil_cache *, const void *, size_t, int64_t, struct pil_identity *, uint64_t *);
    void pil_cache_look(struct pil_cache *, struct pil_cache_state *);

    #define PIL_M_DRY_RUN 0x01

    struct pil_map_config {
        ...;
    };

    struct pil_map_request {
        uint32_t flags;
        uint32_t min_uid;
        uint32_t min_gid;
        uint32_t caller;
        uint32_t caller_gid;
        uint32_t verifier_uid;
        uint32_t verifier_gid;
        int64_t at;
        char accounts[2048];
        char expect[64];
        char command[4096];
        struct pil_identity who;
        ...;
    };

    struct pil_mapping {
        char account[64];
        char home[1024];
        char lease[256];
        uint32_t uid;
        uint32_t gid;
        uint32_t ngroups;
        uint32_t groups[64];
        char detail[PIL_DETAIL_SIZE];
    };

    struct pil_map_record {
        int32_t reason;
        struct pil_mapping map;
        ...;
    };

    int pil_map_request_init(struct pil_map_request *);
    int pil_map_config_load(struct pil_map_config *, const char *, int, char *);
    int pil_map_check_files(const struct pil_map_config *, char *);
    int pil_map_answer(const struct pil_map_config *, int, const char *, const struct pil_map_request *,
        struct pil_map_record *);
    int pil_map_record_check(const struct pil_map_record *, size_t, const struct pil_map_request *);
    int pil_dn_equal(const char *, const char *);

    struct caller {
        const char *name;
        const char *accounts;
        ...;
    };

    struct config {
        const char *ca_dir;
        const char *voms_dir;
        const char *verify_user;
        unsigned min_uid;
        unsigned min_gid;
        unsigned clock_skew;
        unsigned max_proxy_life;
        unsigned max_voms_life;
        unsigned require_crl;
        unsigned refuse_limited;
        unsigned accept_old;
        unsigned no_new_privs;
        unsigned log_only;
        unsigned cgroup;
        unsigned namespaces;
        unsigned long long bounds[4];
        const char *cgroup_parent;
        const char *audit_file;
        size_t ncallers;
        struct caller callers[64];
        ...;
    };

    int config_load(struct config *, const char *, int, char *);
    int bounds_owner(const struct caller *, const struct pil_identity *, char *);
""")
ffi.set_source(
    "pilotage_helper._native",
    """
    #include <base/names.h>
    #include <keep/bounds.h>
    #include <keep/config.h>
    #include <map/map.h>
    #include <pilotage/cache.h>
    #include <pilotage/verify.h>
    """,
    libraries=["crypto"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
