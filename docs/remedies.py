"""What to do about each reason code: the last column of docs/reasons.md. A test holds that every code is here once."""

REMEDIES = {
    # whoever wrote the request
    "do what the message says": (
        "INVALID_ARGUMENT JOB_SPEC_INVALID CONFIG_INVALID HELPER_USAGE HELPER_CONFIG_INVALID ENVIRONMENT_REFUSED"
        " MAP_FILE_MALFORMED VOMSES_MALFORMED"
    ),
    "ask for less, or have the operator raise `[limits]`": "JOB_TOO_LARGE SANDBOX_TOO_LARGE QUEUE_LIMIT",
    "wait; the message says how long": "RATE_LIMITED PASSPHRASE_LOCKED",
    "give each request an id of its own": "REQUEST_ID_REUSED",
    "begin the list anew": "PAGE_TOKEN_INVALID",
    "look at the id; jobs and credentials of others are not found either": "JOB_NOT_FOUND CREDENTIAL_NOT_FOUND",
    "nothing; it is over": "JOB_FINAL CANCELLED_BY_OWNER LEASE_ENDED",
    "pack anew, without it": "SANDBOX_UNSAFE_PATH SANDBOX_UNSAFE_LINK SANDBOX_UNSAFE_MEMBER SANDBOX_MALFORMED",
    "send it again; if it recurs, look at disk and network": "SANDBOX_DIGEST_MISMATCH SANDBOX_TRUNCATED",
    "owner: `pilotage show` and `logs` say why there is none": "SANDBOX_NOT_FOUND OUTPUT_MISSING",
    "owner: read `pilotage logs JOB` and `--stderr`": "PAYLOAD_FAILED",
    "owner: submit again, asking for more": "LIMIT_WALL_TIME LIMIT_MEMORY LIMIT_DISK LIMIT_CPU_TIME",
    "owner: give the program's full path, or take it along and write `./`": "COMMAND_NOT_FOUND COMMAND_UNUSABLE",
    "owner: `pilotage events JOB` tells each attempt's reason": "ATTEMPTS_EXHAUSTED",
    "owner: look at `--site`, `--tag` and sizes; cancel, and submit anew": "NO_PILOT_FITS",
    # who somebody is
    "log in; the SDK does": (
        "UNAUTHENTICATED CHALLENGE_INVALID CHALLENGE_EXPIRED CHALLENGE_USED SESSION_INVALID SESSION_EXPIRED"
    ),
    "sign purpose, audience and challenge with the leaf's key ([api](api.md))": "SIGNATURE_INVALID",
    "call the server by the name in its `audience`, or set PILOTAGE_AUDIENCE": "AUDIENCE_MISMATCH",
    "show attributes that give the role (`pilotage whoami`), or have the operator name them in `[roles]`": (
        "ROLE_REQUIRED PERMISSION_DENIED"
    ),
    "make a proxy that is not limited": "LIMITED_PROXY_REFUSED PROXY_LIMITED",
    "use a client with TLS 1.3": "TLS_VERSION_REFUSED",
    "make a proxy: `voms-proxy-init -rfc`, or `grid-proxy-init -rfc`": (
        "IDENTITY_NOT_FOUND PROXY_EXPIRED PROXY_LEGACY NOT_A_PROXY PROXY_EMPTY KEY_MISSING KEY_MISMATCH PROXY_MALFORMED"
        " PROXY_TOO_LARGE PROXY_EXTRA_CERTIFICATE CHAIN_TOO_DEEP PROXY_NOT_CRITICAL PROXY_INFO_MALFORMED"
        " PROXY_POLICY_UNSUPPORTED PROXY_FULL_UNDER_LIMITED PROXY_NAME PROXY_KEY_USAGE PROXY_FORBIDDEN_EXTENSION"
        " VOMS_DUPLICATE VOMS_TOO_LARGE CHAIN_SIGNATURE CA_AS_END_ENTITY"
    ),
    "make a proxy with fewer steps, or one that allows more (`-path-length`)": "PROXY_PATH_LENGTH",
    "make a shorter proxy, or have the site raise its bound": "LIFETIME_TOO_LONG VOMS_LIFETIME",
    "renew the proxy's attributes: `voms-proxy-init -rfc -voms VO`": "VOMS_EXPIRED VOMS_HOLDER VOMS_TARGET",
    "mend the file's owner, mode or form; the message says which": "IDENTITY_FILE_UNUSABLE PROXY_FILE_UNUSABLE",
    "ask your authority for a certificate that does": (
        "CERTIFICATE_EXPIRED CERTIFICATE_REVOKED KEY_TOO_WEAK SIGNATURE_WEAK NAME_UNSUPPORTED CRITICAL_EXTENSION"
    ),
    "set the clock": "CERTIFICATE_NOT_YET_VALID VOMS_NOT_YET_VALID",
    "ask an admin of the service why": "CALLER_BANNED CREDENTIAL_OWNER_BANNED",
    "ask the site": "OWNER_BANNED OWNER_NOT_LISTED TIME_SLOT_CLOSED COMMAND_FORBIDDEN",
    # authorities
    "run `fetch-crl` on the machine that refuses": "CRL_EXPIRED CRL_MISSING CRL_INVALID",
    "install the authority in `ca_dir` there: both hash names, signing_policy, CRL": (
        "CHAIN_UNKNOWN_CA SIGNING_POLICY_MISSING SIGNING_POLICY_MALFORMED NAMESPACES_MALFORMED CA_DIRECTORY_UNUSABLE"
    ),
    "do not trust the name; ask the authority": "SIGNING_POLICY_VIOLATION NAMESPACES_VIOLATION CA_INVALID",
    "put the VOMS server's present `.lsc` into `vomsdir/VO/` there": (
        "VOMS_LSC_MISSING VOMS_LSC_UNUSABLE VOMS_LSC_MISMATCH"
    ),
    "ask the VO: its server makes attributes that no strict reader takes": (
        "VOMS_MALFORMED VOMS_VERSION VOMS_ALGORITHM VOMS_ISSUER VOMS_ATTRIBUTES VOMS_FQAN VOMS_EXTENSION"
        " VOMS_AUTHORITY_KEY VOMS_AA_CHAIN VOMS_AA_REVOKED VOMS_SIGNATURE VOMS_URI VOMS_ANSWER_MALFORMED"
    ),
    "ask the VO about the membership": "VOMS_NOT_MEMBER VOMS_SUSPENDED VOMS_SERVER_REFUSED VOMS_SUBSET",
    "install the VO's vomses line": "VOMSES_NOT_FOUND VOMS_SERVER_IDENTITY",
    "wait; it is tried again": (
        "VOMS_SERVER_UNREACHABLE VOMS_SERVER_FAILED MYPROXY_SERVER_UNREACHABLE PILOT_LOST PILOT_DRAINING"
        " LEASE_EXPIRED INPUT_FAILED OUTPUT_FAILED ACCOUNT_IN_USE"
    ),
    # the site
    "site: let the account in a `[caller NAME]` of helper.conf, no further than it must": (
        "CALLER_NOT_ALLOWED CALLER_VO_BOUNDS CALLER_ACCOUNT_BOUNDS"
    ),
    "site: give the owner's DN or FQAN a line in the map files": "NO_MAPPING GROUP_UNKNOWN",
    "site: put the file right: there, root's, writable by nobody else": "MAP_FILE_UNUSABLE HELPER_CONFIG_UNUSABLE",
    "site: add accounts to the pool, or recycle leases": "POOL_EXHAUSTED",
    "site: look at the gridmapdir ([leases](helper-interface.md#leases))": "POOL_UNUSABLE POOL_LEASE_CONFLICT",
    "site: make the account, with a home, and uid and groups from `min_uid` and `min_gid` on; or map to another": (
        "ACCOUNT_UNKNOWN ACCOUNT_FORBIDDEN GROUP_FORBIDDEN HOME_UNUSABLE"
    ),
    "make the proxy map to it, or verify the other": "ACCOUNT_CHANGED",
    "site: `pilotage-helper doctor`, as the pilot's account": (
        "HELPER_PRIVILEGE HELPER_NO_NEW_PRIVS HELPER_USER_NAMESPACE HELPER_LIMITS HELPER_NOT_INSTALLED"
        " HELPER_PROBE_FAILED CGROUP_FAILED ISOLATION_FAILED HELPER_SYSTEM VERIFIER_FAILED MAPPER_FAILED"
        " AUDIT_UNAVAILABLE ACCOUNT_LOOKUP"
    ),
    "site: look at the node; if it recurs, report it ([security](../SECURITY.md))": (
        "VERIFIER_RECORD MAPPER_RECORD SWITCH_FAILED VERIFY_INTERNAL WRAPPER_PROTOCOL"
    ),
    "pilot: look at the folder of the target: the account's own, or sticky": "TARGET_PROXY_UNUSABLE",
    "pilot: live as long as the payload": "FRONT_LOST",
    "site: `pilotage-exec cleanup`, as root": "CLEANUP_INCOMPLETE",
    "pilot: renew with the same owner's proxy, no narrower, that ends later": "RENEWAL_REFUSED",
    "site: `mode = switch`, or no pilot here": "HELPER_LOG_ONLY",
    "pilot: give it a `workdir` of its own, 0700, with room": "WORKSPACE_UNUSABLE",
    "give the export whole files": "AUDIT_FILE_UNUSABLE",
    "make room, and export again": "EXPORT_FAILED",
    # credentials
    "owner: `pilotage credential delegate`, with a proxy that lives long enough": (
        "CREDENTIAL_EXPIRED CREDENTIAL_TOO_SHORT CREDENTIAL_DESTROYED RETRIEVAL_KEY_WRONG"
    ),
    "owner: ask your authority, then delegate with the new certificate": "CREDENTIAL_REVOKED",
    "begin the delegation anew, and sign for its key as yourself": (
        "DELEGATION_NOT_FOUND DELEGATION_KEY_MISMATCH DELEGATION_WRONG_OWNER"
    ),
    "pilot: `RefreshCredentialToken`; too many of these ban a pilot": "TOKEN_INVALID TOKEN_EXPIRED TOKEN_USED",
    "pilot: use tokens of your own leases, with the key of your login": "TOKEN_FOREIGN LEASE_FOREIGN",
    "make a request of RSA 2048 or P-256, signed by its own key": "CSR_INVALID KEY_KIND_REFUSED",
    "pilot: `RetrieveCredential` first": "NOTHING_TO_RENEW",
    "operator: [name the pilot](credentials.md#the-policy-of-a-vo) in `targets`, if it shall": "TARGET_REFUSED",
    "destroy some: `pilotage credential destroy`, `myproxy-destroy`": "CREDENTIAL_LIMIT",
    "take another user name": "USERNAME_TAKEN",
    "look at user name, credential name and pass phrase": "PASSPHRASE_WRONG",
    "take a longer pass phrase": "PASSPHRASE_REFUSED",
    "operator: the policy of `[gateway]` ([MyProxy](myproxy.md#policies))": (
        "RETRIEVER_NOT_ALLOWED UNATTENDED_NOT_ALLOWED KEY_STORAGE_NOT_ALLOWED"
    ),
    "look at the MyProxy client and server; the message is theirs": (
        "MYPROXY_MALFORMED MYPROXY_SERVER_REFUSED MYPROXY_ANSWER_INVALID"
    ),
    "do not go on; ask who runs it": "MYPROXY_SERVER_IDENTITY",
    # leases
    "pilot: end the payload and report nothing": "LEASE_NOT_FOUND OUTCOME_ALREADY_RECORDED TRANSITION_REFUSED",
    "pilot: finish what you have first": "TOO_MANY_LEASES",
    "pilot: register anew": "PILOT_NOT_REGISTERED",
    "pilot: go on from the offset that the server has": "LOG_OFFSET",
    # the service
    "`pilotage doctor` says what is in the way": "UNAVAILABLE",
    "try again; then tell the operator": "DEADLINE_EXCEEDED",
    "tell the operator, with the time": "INTERNAL NOT_IMPLEMENTED",
    "operator: is the disk full, or another process on it?": "STORE_UNAVAILABLE DISK_FULL",
    "operator: [the audit](operations.md#the-audit)": "AUDIT_BROKEN",
    "operator: look at the token and its `pin_file`": "KEY_TOKEN_UNAVAILABLE",
    "let pilots that are over leave, or have the operator raise `limits.pilots_per_key`": "TOO_MANY_PILOTS",
}
