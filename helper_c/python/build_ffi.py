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

    struct pil_verify_options {
        const char *ca_dir;
        const char *voms_dir;
        const char *host;
        int64_t at;
        int32_t skew;
        int64_t max_voms_seconds;
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

    #define PIL_ACCOUNT_SIZE 64
    #define PIL_GROUPS_MAX 64

    struct pil_map_options {
        const char *grid_mapfile;
        const char *gridmapdir;
        const char *ban_file;
        uint32_t min_uid;
        uint32_t min_gid;
        uint32_t caller;
        int dry_run;
        int trust_any_owner;
        ...;
    };

    struct pil_mapping {
        char account[PIL_ACCOUNT_SIZE];
        char home[1024];
        char lease[4096];
        uint32_t uid;
        uint32_t gid;
        size_t ngroups;
        uint32_t groups[PIL_GROUPS_MAX];
        char detail[PIL_DETAIL_SIZE];
        ...;
    };

    int pil_map(const struct pil_map_options *, const struct pil_identity *, struct pil_mapping *);
    int pil_dn_equal(const char *, const char *);
""")
ffi.set_source(
    "pilotage_helper._native",
    """
    #include <pilotage/map.h>
    #include <pilotage/verify.h>
    """,
    libraries=["crypto"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
