"""The one table of reason codes.

Every refusal anywhere in Pilotage has exactly one of these codes. The name travels in
gRPC's `google.rpc.ErrorInfo`, in logs, in metrics (lower-cased, as the label `reason`) and on
the command line; the number travels between the C helper and its callers
(`helper_c/include/pilotage/reason.h` repeats the numbers from 200 to 599, and a test holds the two together).
A code, once released, keeps its number and meaning for ever.

The module is longer than others because it is nearly all data: a table in several files would be several tables.
"""

import enum

import msgspec


class Code(enum.Enum):
    """gRPC status codes by their standard numbers, without importing gRPC."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Row(msgspec.Struct, frozen=True):
    """What one reason means to every part of the system.

    `family` names the exception class in `pilotage.errors`; `exit_code` is the CLI's;
    `retry` says whether the same request can succeed later without anybody changing anything.
    """

    family: str
    code: Code
    exit_code: int
    retry: bool
    text: str


class Reason(enum.Enum):
    """A stable reason code; the value is its number."""

    # requests and the service itself
    INVALID_ARGUMENT = 100
    UNAUTHENTICATED = 101
    PERMISSION_DENIED = 102
    NOT_IMPLEMENTED = 103
    UNAVAILABLE = 104
    DEADLINE_EXCEEDED = 105
    INTERNAL = 106
    RATE_LIMITED = 107
    REQUEST_ID_REUSED = 108
    PAGE_TOKEN_INVALID = 109
    CONFIG_INVALID = 110
    STORE_UNAVAILABLE = 111
    DISK_FULL = 112
    AUDIT_BROKEN = 115
    # login and roles
    CHALLENGE_INVALID = 120
    CHALLENGE_EXPIRED = 121
    CHALLENGE_USED = 122
    SIGNATURE_INVALID = 123
    SESSION_INVALID = 124
    SESSION_EXPIRED = 125
    AUDIENCE_MISMATCH = 126
    ROLE_REQUIRED = 127
    LIMITED_PROXY_REFUSED = 128
    TLS_VERSION_REFUSED = 129
    IDENTITY_NOT_FOUND = 130
    IDENTITY_FILE_UNUSABLE = 131
    CALLER_BANNED = 135
    # the verifier: proxy chains
    PROXY_MALFORMED = 200
    PROXY_TOO_LARGE = 201
    PROXY_EMPTY = 202
    PROXY_EXTRA_CERTIFICATE = 203
    CHAIN_UNKNOWN_CA = 204
    CHAIN_SIGNATURE = 205
    CHAIN_TOO_DEEP = 206
    CERTIFICATE_EXPIRED = 207
    PROXY_EXPIRED = 208
    CERTIFICATE_NOT_YET_VALID = 209
    CERTIFICATE_REVOKED = 210
    CRL_EXPIRED = 211
    CRL_MISSING = 212
    CRL_INVALID = 213
    SIGNING_POLICY_MISSING = 214
    SIGNING_POLICY_VIOLATION = 215
    SIGNING_POLICY_MALFORMED = 216
    CA_AS_END_ENTITY = 217
    CA_INVALID = 218
    PROXY_NOT_CRITICAL = 219
    PROXY_INFO_MALFORMED = 220
    PROXY_POLICY_UNSUPPORTED = 221
    PROXY_PATH_LENGTH = 222
    PROXY_FULL_UNDER_LIMITED = 223
    PROXY_NAME = 224
    PROXY_KEY_USAGE = 225
    PROXY_FORBIDDEN_EXTENSION = 226
    PROXY_LEGACY = 227
    KEY_TOO_WEAK = 228
    SIGNATURE_WEAK = 229
    KEY_MISMATCH = 230
    KEY_MISSING = 231
    CA_DIRECTORY_UNUSABLE = 232
    PROXY_LIMITED = 233
    LIFETIME_TOO_LONG = 234
    NAME_UNSUPPORTED = 235
    CRITICAL_EXTENSION = 236
    NOT_A_PROXY = 237
    VERIFY_INTERNAL = 238
    NAMESPACES_VIOLATION = 239
    NAMESPACES_MALFORMED = 240
    # the verifier: VOMS attributes
    VOMS_MALFORMED = 300
    VOMS_TOO_LARGE = 301
    VOMS_DUPLICATE = 302
    VOMS_VERSION = 303
    VOMS_ALGORITHM = 304
    VOMS_HOLDER = 305
    VOMS_ISSUER = 306
    VOMS_EXPIRED = 307
    VOMS_NOT_YET_VALID = 308
    VOMS_LIFETIME = 309
    VOMS_ATTRIBUTES = 310
    VOMS_FQAN = 311
    VOMS_EXTENSION = 312
    VOMS_TARGET = 313
    VOMS_AUTHORITY_KEY = 314
    VOMS_LSC_MISSING = 315
    VOMS_LSC_UNUSABLE = 316
    VOMS_LSC_MISMATCH = 317
    VOMS_AA_CHAIN = 318
    VOMS_AA_REVOKED = 319
    VOMS_SIGNATURE = 320
    VOMS_URI = 321
    # the helper: caller and mapping
    CALLER_NOT_ALLOWED = 400
    CALLER_VO_BOUNDS = 401
    CALLER_ACCOUNT_BOUNDS = 402
    OWNER_BANNED = 403
    NO_MAPPING = 404
    MAP_FILE_MALFORMED = 405
    MAP_FILE_UNUSABLE = 406
    POOL_EXHAUSTED = 407
    POOL_UNUSABLE = 408
    POOL_LEASE_CONFLICT = 409
    ACCOUNT_UNKNOWN = 410
    ACCOUNT_FORBIDDEN = 411
    GROUP_FORBIDDEN = 412
    ACCOUNT_LOOKUP = 413
    ACCOUNT_IN_USE = 414
    OWNER_NOT_LISTED = 415
    TIME_SLOT_CLOSED = 416
    COMMAND_FORBIDDEN = 417
    ACCOUNT_CHANGED = 418
    GROUP_UNKNOWN = 419
    # the helper: the machine
    HELPER_USAGE = 500
    HELPER_PRIVILEGE = 501
    HELPER_NO_NEW_PRIVS = 502
    HELPER_USER_NAMESPACE = 503
    HELPER_LIMITS = 504
    HELPER_CONFIG_UNUSABLE = 505
    HELPER_CONFIG_INVALID = 506
    AUDIT_UNAVAILABLE = 507
    PROXY_FILE_UNUSABLE = 508
    VERIFIER_FAILED = 509
    VERIFIER_RECORD = 510
    HELPER_SYSTEM = 511
    SWITCH_FAILED = 512
    TARGET_PROXY_UNUSABLE = 513
    COMMAND_UNUSABLE = 514
    CGROUP_FAILED = 515
    FRONT_LOST = 516
    CLEANUP_INCOMPLETE = 517
    HELPER_NOT_INSTALLED = 518
    HOME_UNUSABLE = 519
    ISOLATION_FAILED = 520
    RENEWAL_REFUSED = 522
    MAPPER_FAILED = 530
    MAPPER_RECORD = 531
    # credentials
    CREDENTIAL_NOT_FOUND = 600
    CREDENTIAL_EXPIRED = 601
    CREDENTIAL_TOO_SHORT = 602
    CREDENTIAL_DESTROYED = 603
    CREDENTIAL_REVOKED = 604
    DELEGATION_NOT_FOUND = 605
    DELEGATION_KEY_MISMATCH = 606
    DELEGATION_WRONG_OWNER = 607
    RETRIEVAL_KEY_WRONG = 608
    TOKEN_INVALID = 609
    TOKEN_EXPIRED = 610
    TOKEN_USED = 611
    TOKEN_FOREIGN = 612
    CSR_INVALID = 613
    KEY_KIND_REFUSED = 614
    NOTHING_TO_RENEW = 615
    CREDENTIAL_OWNER_BANNED = 630
    KEY_TOKEN_UNAVAILABLE = 631
    TARGET_REFUSED = 635
    # MyProxy: the gateway, and servers that credentials are imported from
    MYPROXY_MALFORMED = 640
    USERNAME_TAKEN = 641
    PASSPHRASE_WRONG = 642
    PASSPHRASE_REFUSED = 643
    PASSPHRASE_LOCKED = 644
    RETRIEVER_NOT_ALLOWED = 645
    UNATTENDED_NOT_ALLOWED = 646
    KEY_STORAGE_NOT_ALLOWED = 647
    CREDENTIAL_LIMIT = 648
    MYPROXY_SERVER_UNREACHABLE = 650
    MYPROXY_SERVER_IDENTITY = 651
    MYPROXY_SERVER_REFUSED = 652
    MYPROXY_ANSWER_INVALID = 653
    # jobs and leases
    JOB_NOT_FOUND = 700
    JOB_SPEC_INVALID = 701
    JOB_TOO_LARGE = 702
    JOB_FINAL = 703
    LEASE_NOT_FOUND = 704
    LEASE_EXPIRED = 705
    LEASE_FOREIGN = 706
    LEASE_ENDED = 707
    TRANSITION_REFUSED = 708
    TOO_MANY_LEASES = 709
    PILOT_NOT_REGISTERED = 710
    OUTCOME_ALREADY_RECORDED = 711
    QUEUE_LIMIT = 712
    CANCELLED_BY_OWNER = 713
    ATTEMPTS_EXHAUSTED = 714
    PILOT_LOST = 715
    TOO_MANY_PILOTS = 716
    NO_PILOT_FITS = 717
    # sandboxes and logs
    SANDBOX_NOT_FOUND = 800
    SANDBOX_TOO_LARGE = 801
    SANDBOX_DIGEST_MISMATCH = 802
    SANDBOX_TRUNCATED = 803
    SANDBOX_UNSAFE_PATH = 804
    SANDBOX_UNSAFE_LINK = 805
    SANDBOX_UNSAFE_MEMBER = 806
    SANDBOX_MALFORMED = 807
    LOG_OFFSET = 808
    OUTPUT_MISSING = 809
    # the pilot and the wrapper
    WRAPPER_PROTOCOL = 900
    PAYLOAD_FAILED = 901
    LIMIT_WALL_TIME = 902
    LIMIT_MEMORY = 903
    LIMIT_DISK = 904
    LIMIT_CPU_TIME = 905
    HELPER_PROBE_FAILED = 906
    PILOT_DRAINING = 907
    WORKSPACE_UNUSABLE = 908
    COMMAND_NOT_FOUND = 909
    ENVIRONMENT_REFUSED = 910
    INPUT_FAILED = 911
    OUTPUT_FAILED = 912
    HELPER_LOG_ONLY = 918
    # the VOMS client
    VOMSES_NOT_FOUND = 920
    VOMSES_MALFORMED = 921
    VOMS_SERVER_UNREACHABLE = 922
    VOMS_SERVER_IDENTITY = 923
    VOMS_SERVER_REFUSED = 924
    VOMS_SERVER_FAILED = 925
    VOMS_NOT_MEMBER = 926
    VOMS_SUSPENDED = 927
    VOMS_SUBSET = 928
    VOMS_ANSWER_MALFORMED = 929
    # accounting
    AUDIT_FILE_UNUSABLE = 950
    EXPORT_FAILED = 951

    @property
    def row(self) -> Row:
        """Return the table's row of this reason."""
        return TABLE[self]

    @property
    def label(self) -> str:
        """Return the value for the metric label `reason`."""
        return self.name.lower()


TABLE: dict[Reason, Row] = {
    # requests and the service itself
    Reason.INVALID_ARGUMENT: Row(
        "RequestError", Code.INVALID_ARGUMENT, 2, False, "A value in the request is not acceptable."
    ),
    Reason.UNAUTHENTICATED: Row(
        "AuthenticationError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The call carries no identity; log in or come with a certificate.",
    ),
    Reason.PERMISSION_DENIED: Row(
        "AuthorizationError", Code.PERMISSION_DENIED, 4, False, "The caller may not do this."
    ),
    Reason.NOT_IMPLEMENTED: Row(
        "ServiceError", Code.UNIMPLEMENTED, 1, False, "This part of the service is not built yet."
    ),
    Reason.UNAVAILABLE: Row(
        "ServiceError", Code.UNAVAILABLE, 5, True, "The server cannot be reached or is stopping; try again."
    ),
    Reason.DEADLINE_EXCEEDED: Row(
        "ServiceError", Code.DEADLINE_EXCEEDED, 5, True, "The server did not answer in time; try again."
    ),
    Reason.INTERNAL: Row(
        "ServiceError",
        Code.INTERNAL,
        1,
        False,
        "The service met a fault of its own; the operator's log has the details.",
    ),
    Reason.RATE_LIMITED: Row(
        "ServiceError", Code.RESOURCE_EXHAUSTED, 5, True, "Too many requests; wait and try again."
    ),
    Reason.REQUEST_ID_REUSED: Row(
        "RequestError", Code.ALREADY_EXISTS, 2, False, "This request id was used for another request."
    ),
    Reason.PAGE_TOKEN_INVALID: Row(
        "RequestError", Code.INVALID_ARGUMENT, 2, False, "The page token is not one this list gave."
    ),
    Reason.CONFIG_INVALID: Row("ConfigError", Code.FAILED_PRECONDITION, 2, False, "The configuration is wrong."),
    Reason.STORE_UNAVAILABLE: Row(
        "ServiceError", Code.UNAVAILABLE, 5, True, "The database cannot be used now; try again."
    ),
    Reason.DISK_FULL: Row(
        "ServiceError", Code.RESOURCE_EXHAUSTED, 5, True, "The service has no room to store this; try again later."
    ),
    Reason.AUDIT_BROKEN: Row(
        "ServiceError", Code.DATA_LOSS, 1, False, "The audit chain is not what it was: rows were changed or taken away."
    ),
    # login and roles
    Reason.CHALLENGE_INVALID: Row(
        "AuthenticationError",
        Code.UNAUTHENTICATED,
        4,
        True,
        "The challenge was not made by this server, or was altered; log in anew.",
    ),
    Reason.CHALLENGE_EXPIRED: Row(
        "AuthenticationError", Code.UNAUTHENTICATED, 4, True, "The challenge came back too late; log in anew."
    ),
    Reason.CHALLENGE_USED: Row(
        "AuthenticationError", Code.UNAUTHENTICATED, 4, True, "The challenge was used before; log in anew."
    ),
    Reason.SIGNATURE_INVALID: Row(
        "AuthenticationError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The signature does not belong to the leaf certificate and this challenge.",
    ),
    Reason.SESSION_INVALID: Row(
        "AuthenticationError",
        Code.UNAUTHENTICATED,
        4,
        True,
        "The session token is not one of this server; log in anew.",
    ),
    Reason.SESSION_EXPIRED: Row(
        "AuthenticationError", Code.UNAUTHENTICATED, 4, True, "The session is over; log in anew."
    ),
    Reason.AUDIENCE_MISMATCH: Row(
        "AuthenticationError", Code.UNAUTHENTICATED, 4, False, "The signature or token was made for another server."
    ),
    Reason.ROLE_REQUIRED: Row(
        "AuthorizationError",
        Code.PERMISSION_DENIED,
        4,
        False,
        "The caller's VOMS attributes do not give the role this call needs.",
    ),
    Reason.LIMITED_PROXY_REFUSED: Row(
        "AuthorizationError", Code.PERMISSION_DENIED, 4, False, "A limited proxy may not do this; use a full one."
    ),
    Reason.TLS_VERSION_REFUSED: Row("AuthenticationError", Code.UNAUTHENTICATED, 4, False, "Only TLS 1.3 is accepted."),
    Reason.IDENTITY_NOT_FOUND: Row(
        "CredentialFileError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "No proxy and no user certificate was found where grid tools keep them.",
    ),
    Reason.IDENTITY_FILE_UNUSABLE: Row(
        "CredentialFileError", Code.UNAUTHENTICATED, 4, False, "The proxy, certificate or key file cannot be used."
    ),
    Reason.CALLER_BANNED: Row(
        "AuthorizationError",
        Code.PERMISSION_DENIED,
        4,
        False,
        "The caller is banned; an admin of the service can lift that.",
    ),
    # the verifier: proxy chains
    Reason.PROXY_MALFORMED: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The file or chain is not well-formed PEM or DER."
    ),
    Reason.PROXY_TOO_LARGE: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The chain is larger than any real one."
    ),
    Reason.PROXY_EMPTY: Row("VerifyError", Code.UNAUTHENTICATED, 4, False, "There is no certificate in it."),
    Reason.PROXY_EXTRA_CERTIFICATE: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "It holds a certificate that is not part of the verified chain."
    ),
    Reason.CHAIN_UNKNOWN_CA: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The chain does not end at a certificate authority that is trusted here.",
    ),
    Reason.CHAIN_SIGNATURE: Row("VerifyError", Code.UNAUTHENTICATED, 4, False, "A signature in the chain is wrong."),
    Reason.CHAIN_TOO_DEEP: Row("VerifyError", Code.UNAUTHENTICATED, 4, False, "The chain is longer than allowed."),
    Reason.CERTIFICATE_EXPIRED: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A certificate of the chain that is not a proxy has expired."
    ),
    Reason.PROXY_EXPIRED: Row("VerifyError", Code.UNAUTHENTICATED, 4, False, "The proxy has expired; make a new one."),
    Reason.CERTIFICATE_NOT_YET_VALID: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, True, "A certificate of the chain is not valid yet; check the clocks."
    ),
    Reason.CERTIFICATE_REVOKED: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A certificate of the chain is revoked."
    ),
    Reason.CRL_EXPIRED: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        True,
        "The revocation list of a certificate authority is out of date; the site must fetch a new one.",
    ),
    Reason.CRL_MISSING: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        True,
        "A certificate authority has no revocation list here and the policy wants one.",
    ),
    Reason.CRL_INVALID: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The revocation list of a certificate authority is not genuine."
    ),
    Reason.SIGNING_POLICY_MISSING: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The certificate authority has no signing_policy file here."
    ),
    Reason.SIGNING_POLICY_VIOLATION: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The certificate authority may not sign this name by its signing_policy.",
    ),
    Reason.SIGNING_POLICY_MALFORMED: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The signing_policy file of the certificate authority cannot be read.",
    ),
    Reason.CA_AS_END_ENTITY: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "A certificate authority's own certificate was used as a person's.",
    ),
    Reason.CA_INVALID: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "A certificate signed others without being a certificate authority.",
    ),
    Reason.PROXY_NOT_CRITICAL: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The proxyCertInfo extension is not critical."
    ),
    Reason.PROXY_INFO_MALFORMED: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The proxyCertInfo extension is not well formed or stands twice."
    ),
    Reason.PROXY_POLICY_UNSUPPORTED: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The proxy's policy language is not one that speaks for its owner.",
    ),
    Reason.PROXY_PATH_LENGTH: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A proxy was extended further than it allows."
    ),
    Reason.PROXY_FULL_UNDER_LIMITED: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A full proxy follows a limited one."
    ),
    Reason.PROXY_NAME: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A proxy's subject is not its issuer's plus one common name."
    ),
    Reason.PROXY_KEY_USAGE: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The key usage of a certificate forbids what it was used for."
    ),
    Reason.PROXY_FORBIDDEN_EXTENSION: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A proxy carries an extension that RFC 3820 forbids."
    ),
    Reason.PROXY_LEGACY: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The proxy is of a kind older than RFC 3820."
    ),
    Reason.KEY_TOO_WEAK: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "A key of the chain is too short or of a kind that is not accepted.",
    ),
    Reason.SIGNATURE_WEAK: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A certificate is signed with a broken hash."
    ),
    Reason.KEY_MISMATCH: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The private key does not belong to the leaf certificate."
    ),
    Reason.KEY_MISSING: Row("VerifyError", Code.UNAUTHENTICATED, 4, False, "There is no private key in the file."),
    Reason.CA_DIRECTORY_UNUSABLE: Row(
        "VerifyError", Code.UNAVAILABLE, 4, False, "The directory of trusted certificate authorities cannot be used."
    ),
    Reason.PROXY_LIMITED: Row("VerifyError", Code.UNAUTHENTICATED, 4, False, "Limited proxies are not accepted here."),
    Reason.LIFETIME_TOO_LONG: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The proxy is valid for longer than the policy allows."
    ),
    Reason.NAME_UNSUPPORTED: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "A name holds characters that could be mistaken for another name.",
    ),
    Reason.CRITICAL_EXTENSION: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "A certificate carries a critical extension that is not understood.",
    ),
    Reason.NOT_A_PROXY: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A bare certificate was given where a proxy is needed."
    ),
    Reason.VERIFY_INTERNAL: Row("VerifyError", Code.INTERNAL, 1, False, "The verifier met a fault of its own."),
    Reason.NAMESPACES_VIOLATION: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The certificate authority may not sign this name by a namespaces file.",
    ),
    Reason.NAMESPACES_MALFORMED: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "A namespaces file of the certificate authority, or of one above it, cannot be read.",
    ),
    # the verifier: VOMS attributes
    Reason.VOMS_MALFORMED: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The VOMS attribute certificate is not strict DER of the known shape.",
    ),
    Reason.VOMS_TOO_LARGE: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "There are more or larger VOMS attributes than any real server gives.",
    ),
    Reason.VOMS_DUPLICATE: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "A proxy carries the VOMS extension twice."
    ),
    Reason.VOMS_VERSION: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The attribute certificate is not version 2."
    ),
    Reason.VOMS_ALGORITHM: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The attribute certificate is signed with an algorithm that is not accepted.",
    ),
    Reason.VOMS_HOLDER: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The attribute certificate was made for somebody else."
    ),
    Reason.VOMS_ISSUER: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The issuer of the attribute certificate is not the one that signed it.",
    ),
    Reason.VOMS_EXPIRED: Row("VerifyError", Code.UNAUTHENTICATED, 4, False, "The VOMS attributes have expired."),
    Reason.VOMS_NOT_YET_VALID: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, True, "The VOMS attributes are not valid yet; check the clocks."
    ),
    Reason.VOMS_LIFETIME: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The VOMS attributes are valid for no time or for longer than the policy allows.",
    ),
    Reason.VOMS_ATTRIBUTES: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The attribute certificate does not hold exactly one list of attributes.",
    ),
    Reason.VOMS_FQAN: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "An attribute is not a well-formed FQAN of its VO."
    ),
    Reason.VOMS_EXTENSION: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The attribute certificate carries an extension that is unknown and critical, or one twice.",
    ),
    Reason.VOMS_TARGET: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The VOMS attributes are meant for other hosts."
    ),
    Reason.VOMS_AUTHORITY_KEY: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The attribute certificate names another signing key."
    ),
    Reason.VOMS_LSC_MISSING: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The VOMS server has no .lsc file here."
    ),
    Reason.VOMS_LSC_UNUSABLE: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The .lsc file of the VOMS server cannot be trusted or read."
    ),
    Reason.VOMS_LSC_MISMATCH: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The VOMS server's certificates are not those its .lsc file names.",
    ),
    Reason.VOMS_AA_CHAIN: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The VOMS server's certificate is not genuine here."
    ),
    Reason.VOMS_AA_REVOKED: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The VOMS server's certificate is revoked."
    ),
    Reason.VOMS_SIGNATURE: Row(
        "VerifyError", Code.UNAUTHENTICATED, 4, False, "The signature of the attribute certificate is wrong."
    ),
    Reason.VOMS_URI: Row(
        "VerifyError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The attribute certificate does not say properly which VOMS server made it.",
    ),
    # the helper: caller and mapping
    Reason.CALLER_NOT_ALLOWED: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "This local account may not use the helper."
    ),
    Reason.CALLER_VO_BOUNDS: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "This pilot may not run payloads of that VO or group."
    ),
    Reason.CALLER_ACCOUNT_BOUNDS: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "This pilot may not run payloads under that account."
    ),
    Reason.OWNER_BANNED: Row("HelperDenied", Code.PERMISSION_DENIED, 4, False, "The owner is banned at this site."),
    Reason.NO_MAPPING: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "No line of the site's map files fits this owner."
    ),
    Reason.MAP_FILE_MALFORMED: Row("HelperDenied", Code.PERMISSION_DENIED, 4, False, "A map file has a broken line."),
    Reason.MAP_FILE_UNUSABLE: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "A map file is missing or cannot be trusted."
    ),
    Reason.POOL_EXHAUSTED: Row(
        "HelperDenied", Code.RESOURCE_EXHAUSTED, 4, True, "All accounts of the pool are leased."
    ),
    Reason.POOL_UNUSABLE: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The directory of pool leases cannot be used."
    ),
    Reason.POOL_LEASE_CONFLICT: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The owner's pool lease contradicts the map."
    ),
    Reason.ACCOUNT_UNKNOWN: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The mapped account does not exist on this machine."
    ),
    Reason.ACCOUNT_FORBIDDEN: Row(
        "HelperDenied",
        Code.PERMISSION_DENIED,
        4,
        False,
        "The mapped account or its uid is one that never runs payloads.",
    ),
    Reason.GROUP_FORBIDDEN: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "A group of the mapped account never runs payloads."
    ),
    Reason.ACCOUNT_LOOKUP: Row(
        "HelperSystemError", Code.UNAVAILABLE, 1, True, "The account database could not be asked."
    ),
    Reason.ACCOUNT_IN_USE: Row(
        "HelperDenied", Code.RESOURCE_EXHAUSTED, 4, True, "Another owner's payload still runs under the account."
    ),
    Reason.OWNER_NOT_LISTED: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The owner is not in the site's list of allowed users."
    ),
    Reason.TIME_SLOT_CLOSED: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, True, "The site runs no payloads of its owners at this hour."
    ),
    Reason.COMMAND_FORBIDDEN: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The command is not one that the site permits."
    ),
    Reason.ACCOUNT_CHANGED: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The proxy does not map to the account that was named."
    ),
    Reason.GROUP_UNKNOWN: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The mapped group does not exist on this machine."
    ),
    # the helper: the machine
    Reason.HELPER_USAGE: Row("HelperUsageError", Code.INVALID_ARGUMENT, 2, False, "The helper was called wrongly."),
    Reason.HELPER_PRIVILEGE: Row(
        "HelperSystemError",
        Code.FAILED_PRECONDITION,
        1,
        False,
        "The helper is not installed set-user-id root, or lacks a capability.",
    ),
    Reason.HELPER_NO_NEW_PRIVS: Row(
        "HelperSystemError", Code.FAILED_PRECONDITION, 1, False, "no_new_privs is set, so the helper cannot switch."
    ),
    Reason.HELPER_USER_NAMESPACE: Row(
        "HelperSystemError", Code.FAILED_PRECONDITION, 1, False, "The helper was started in a child user namespace."
    ),
    Reason.HELPER_LIMITS: Row(
        "HelperSystemError",
        Code.FAILED_PRECONDITION,
        1,
        False,
        "A resource limit of the caller is too small for the helper.",
    ),
    Reason.HELPER_CONFIG_UNUSABLE: Row(
        "HelperSystemError",
        Code.FAILED_PRECONDITION,
        1,
        False,
        "The helper's configuration file is missing or others could have changed it.",
    ),
    Reason.HELPER_CONFIG_INVALID: Row(
        "HelperSystemError", Code.FAILED_PRECONDITION, 1, False, "The helper's configuration file has an error."
    ),
    Reason.AUDIT_UNAVAILABLE: Row(
        "HelperSystemError", Code.UNAVAILABLE, 1, True, "The helper cannot write its audit record."
    ),
    Reason.PROXY_FILE_UNUSABLE: Row(
        "HelperUsageError",
        Code.FAILED_PRECONDITION,
        2,
        False,
        "The proxy file cannot be used: owner, mode, kind or size.",
    ),
    Reason.VERIFIER_FAILED: Row(
        "HelperDenied", Code.UNAVAILABLE, 1, True, "The verifying process died or did not answer."
    ),
    Reason.VERIFIER_RECORD: Row(
        "HelperDenied", Code.INTERNAL, 1, False, "The verifying process gave an impossible answer."
    ),
    Reason.HELPER_SYSTEM: Row("HelperSystemError", Code.UNAVAILABLE, 1, True, "A system call of the helper failed."),
    Reason.SWITCH_FAILED: Row(
        "HelperSystemError", Code.FAILED_PRECONDITION, 1, False, "The identity switch was not complete."
    ),
    Reason.TARGET_PROXY_UNUSABLE: Row(
        "HelperUsageError",
        Code.FAILED_PRECONDITION,
        2,
        False,
        "The payload's copy of the proxy cannot be written there.",
    ),
    Reason.COMMAND_UNUSABLE: Row(
        "HelperUsageError", Code.FAILED_PRECONDITION, 2, False, "The command cannot be executed."
    ),
    Reason.CGROUP_FAILED: Row(
        "HelperSystemError", Code.UNAVAILABLE, 1, True, "The payload's cgroup could not be made."
    ),
    Reason.FRONT_LOST: Row(
        "HelperSystemError", Code.UNAVAILABLE, 1, True, "The caller's process ended before the payload did."
    ),
    Reason.CLEANUP_INCOMPLETE: Row(
        "HelperSystemError", Code.UNAVAILABLE, 1, True, "Something of the payload could not be removed."
    ),
    Reason.HELPER_NOT_INSTALLED: Row(
        "HelperSystemError",
        Code.FAILED_PRECONDITION,
        1,
        False,
        "The helper program is not where the configuration says.",
    ),
    Reason.HOME_UNUSABLE: Row(
        "HelperDenied", Code.FAILED_PRECONDITION, 1, False, "The mapped account's home directory cannot be used."
    ),
    Reason.ISOLATION_FAILED: Row(
        "HelperSystemError", Code.UNAVAILABLE, 1, True, "The payload's namespaces could not be made."
    ),
    Reason.RENEWAL_REFUSED: Row(
        "HelperDenied", Code.PERMISSION_DENIED, 4, False, "The new proxy is not the old one's successor."
    ),
    Reason.MAPPER_FAILED: Row("HelperDenied", Code.UNAVAILABLE, 1, True, "The mapping process died or did not answer."),
    Reason.MAPPER_RECORD: Row(
        "HelperDenied", Code.INTERNAL, 1, False, "The mapping process gave an impossible answer."
    ),
    # credentials
    Reason.CREDENTIAL_NOT_FOUND: Row("CredentialError", Code.NOT_FOUND, 3, False, "No such credential."),
    Reason.CREDENTIAL_EXPIRED: Row(
        "CredentialError", Code.FAILED_PRECONDITION, 4, False, "The stored credential has expired; delegate a new one."
    ),
    Reason.CREDENTIAL_TOO_SHORT: Row(
        "CredentialError",
        Code.FAILED_PRECONDITION,
        4,
        False,
        "The credential does not live long enough; delegate a new one.",
    ),
    Reason.CREDENTIAL_DESTROYED: Row(
        "CredentialError", Code.FAILED_PRECONDITION, 4, False, "The credential was destroyed; delegate a new one."
    ),
    Reason.CREDENTIAL_REVOKED: Row("CredentialError", Code.FAILED_PRECONDITION, 4, False, "The credential is revoked."),
    Reason.DELEGATION_NOT_FOUND: Row(
        "CredentialError", Code.NOT_FOUND, 3, True, "The delegation is unknown, over or too old; begin anew."
    ),
    Reason.DELEGATION_KEY_MISMATCH: Row(
        "CredentialError",
        Code.INVALID_ARGUMENT,
        4,
        False,
        "The proxy was made for another key than the service asked for.",
    ),
    Reason.DELEGATION_WRONG_OWNER: Row(
        "CredentialError", Code.PERMISSION_DENIED, 4, False, "The proxy belongs to somebody else than the caller."
    ),
    Reason.RETRIEVAL_KEY_WRONG: Row(
        "CredentialError", Code.PERMISSION_DENIED, 4, False, "The retrieval key does not open the credential."
    ),
    Reason.TOKEN_INVALID: Row(
        "CredentialError", Code.PERMISSION_DENIED, 4, False, "The credential token is not genuine."
    ),
    Reason.TOKEN_EXPIRED: Row(
        "CredentialError", Code.PERMISSION_DENIED, 4, True, "The credential token is too old; ask for a fresh one."
    ),
    Reason.TOKEN_USED: Row(
        "CredentialError", Code.PERMISSION_DENIED, 4, False, "The credential token was used before."
    ),
    Reason.TOKEN_FOREIGN: Row(
        "CredentialError", Code.PERMISSION_DENIED, 4, False, "The credential token was made for another pilot."
    ),
    Reason.CSR_INVALID: Row(
        "CredentialError",
        Code.INVALID_ARGUMENT,
        2,
        False,
        "The certificate request is not well formed or not signed by its own key.",
    ),
    Reason.KEY_KIND_REFUSED: Row(
        "CredentialError", Code.INVALID_ARGUMENT, 2, False, "This kind or size of key is not accepted."
    ),
    Reason.NOTHING_TO_RENEW: Row(
        "CredentialError", Code.FAILED_PRECONDITION, 1, False, "The lease has no proxy yet; retrieve one first."
    ),
    Reason.KEY_TOKEN_UNAVAILABLE: Row(
        "ServiceError", Code.UNAVAILABLE, 5, True, "The token that holds the service's keys does not answer; try again."
    ),
    Reason.CREDENTIAL_OWNER_BANNED: Row(
        "CredentialError",
        Code.FAILED_PRECONDITION,
        1,
        False,
        "The owner of the credential is banned; an admin of the service can lift that.",
    ),
    Reason.TARGET_REFUSED: Row(
        "AuthorizationError",
        Code.PERMISSION_DENIED,
        4,
        False,
        "The policy does not let this pilot have credentials of this VO.",
    ),
    # MyProxy: the gateway, and servers that credentials are imported from
    Reason.MYPROXY_MALFORMED: Row(
        "RequestError", Code.INVALID_ARGUMENT, 2, False, "The message is not one of MyProxy's protocol."
    ),
    Reason.USERNAME_TAKEN: Row(
        "AuthorizationError", Code.PERMISSION_DENIED, 4, False, "This MyProxy user name belongs to somebody else."
    ),
    Reason.PASSPHRASE_WRONG: Row(
        "AuthenticationError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "There is no credential of this name that this pass phrase opens.",
    ),
    Reason.PASSPHRASE_REFUSED: Row(
        "RequestError", Code.INVALID_ARGUMENT, 2, False, "This pass phrase is too short to protect a credential."
    ),
    Reason.PASSPHRASE_LOCKED: Row(
        "ServiceError",
        Code.RESOURCE_EXHAUSTED,
        5,
        True,
        "Too many wrong pass phrases were given for this name; wait and try again.",
    ),
    Reason.RETRIEVER_NOT_ALLOWED: Row(
        "AuthorizationError",
        Code.PERMISSION_DENIED,
        4,
        False,
        "The policy does not let this client take the credential.",
    ),
    Reason.UNATTENDED_NOT_ALLOWED: Row(
        "AuthorizationError",
        Code.PERMISSION_DENIED,
        4,
        False,
        "This service keeps no credential without a pass phrase; give one.",
    ),
    Reason.KEY_STORAGE_NOT_ALLOWED: Row(
        "AuthorizationError",
        Code.PERMISSION_DENIED,
        4,
        False,
        "This service neither takes in nor gives out private keys.",
    ),
    Reason.CREDENTIAL_LIMIT: Row(
        "StateError",
        Code.FAILED_PRECONDITION,
        4,
        False,
        "The owner has stored as many credentials as are allowed; destroy some.",
    ),
    Reason.MYPROXY_SERVER_UNREACHABLE: Row(
        "ServiceError", Code.UNAVAILABLE, 5, True, "The MyProxy server cannot be reached or broke off; try again."
    ),
    Reason.MYPROXY_SERVER_IDENTITY: Row(
        "AuthenticationError",
        Code.UNAUTHENTICATED,
        4,
        False,
        "The MyProxy server did not prove to be the one that was asked for.",
    ),
    Reason.MYPROXY_SERVER_REFUSED: Row(
        "AuthorizationError", Code.PERMISSION_DENIED, 4, False, "The MyProxy server refused."
    ),
    Reason.MYPROXY_ANSWER_INVALID: Row(
        "ServiceError", Code.INTERNAL, 1, False, "The MyProxy server's answer cannot be understood."
    ),
    # jobs and leases
    Reason.JOB_NOT_FOUND: Row("NotFoundError", Code.NOT_FOUND, 3, False, "No such job."),
    Reason.JOB_SPEC_INVALID: Row(
        "RequestError", Code.INVALID_ARGUMENT, 2, False, "The job's description has an error."
    ),
    Reason.JOB_TOO_LARGE: Row(
        "RequestError", Code.INVALID_ARGUMENT, 2, False, "The job asks for more than the service allows."
    ),
    Reason.JOB_FINAL: Row("StateError", Code.FAILED_PRECONDITION, 1, False, "The job is over; its state is final."),
    Reason.LEASE_NOT_FOUND: Row("LeaseError", Code.NOT_FOUND, 3, False, "No such lease."),
    Reason.LEASE_EXPIRED: Row(
        "LeaseError", Code.FAILED_PRECONDITION, 1, False, "The lease has expired and the job was offered again."
    ),
    Reason.LEASE_FOREIGN: Row("LeaseError", Code.PERMISSION_DENIED, 4, False, "Another pilot holds this lease."),
    Reason.LEASE_ENDED: Row("LeaseError", Code.FAILED_PRECONDITION, 1, False, "The lease is over."),
    Reason.TRANSITION_REFUSED: Row(
        "StateError", Code.FAILED_PRECONDITION, 1, False, "The job cannot move to that state from the one it is in."
    ),
    Reason.TOO_MANY_LEASES: Row(
        "LeaseError", Code.RESOURCE_EXHAUSTED, 1, True, "The pilot holds as many leases as it has slots."
    ),
    Reason.PILOT_NOT_REGISTERED: Row("NotFoundError", Code.NOT_FOUND, 3, True, "No such pilot; register anew."),
    Reason.OUTCOME_ALREADY_RECORDED: Row(
        "LeaseError", Code.ALREADY_EXISTS, 1, False, "The attempt ended before with another result."
    ),
    Reason.QUEUE_LIMIT: Row(
        "RequestError", Code.RESOURCE_EXHAUSTED, 1, True, "The owner has as many jobs queued as the service allows."
    ),
    Reason.CANCELLED_BY_OWNER: Row("StateError", Code.ABORTED, 1, False, "The owner cancelled the job."),
    Reason.ATTEMPTS_EXHAUSTED: Row("StateError", Code.FAILED_PRECONDITION, 1, False, "All attempts at the job failed."),
    Reason.PILOT_LOST: Row("StateError", Code.ABORTED, 1, True, "The pilot stopped reporting."),
    Reason.TOO_MANY_PILOTS: Row(
        "RequestError",
        Code.RESOURCE_EXHAUSTED,
        1,
        True,
        "As many pilots are registered with this certificate and key as the service allows.",
    ),
    Reason.NO_PILOT_FITS: Row(
        "StateError", Code.FAILED_PRECONDITION, 1, True, "No pilot that asks for work offers what the job wants."
    ),
    # sandboxes and logs
    Reason.SANDBOX_NOT_FOUND: Row("NotFoundError", Code.NOT_FOUND, 3, False, "No such sandbox."),
    Reason.SANDBOX_TOO_LARGE: Row(
        "SandboxError", Code.RESOURCE_EXHAUSTED, 2, False, "The sandbox is larger than allowed."
    ),
    Reason.SANDBOX_DIGEST_MISMATCH: Row(
        "SandboxError", Code.DATA_LOSS, 1, True, "The bytes received are not those announced."
    ),
    Reason.SANDBOX_TRUNCATED: Row(
        "SandboxError", Code.DATA_LOSS, 1, True, "The sandbox ended before its announced size."
    ),
    Reason.SANDBOX_UNSAFE_PATH: Row(
        "SandboxError",
        Code.INVALID_ARGUMENT,
        2,
        False,
        "A member of the sandbox has an absolute path or leads out of it.",
    ),
    Reason.SANDBOX_UNSAFE_LINK: Row(
        "SandboxError", Code.INVALID_ARGUMENT, 2, False, "A link in the sandbox leads out of it."
    ),
    Reason.SANDBOX_UNSAFE_MEMBER: Row(
        "SandboxError", Code.INVALID_ARGUMENT, 2, False, "A member of the sandbox is neither file, directory nor link."
    ),
    Reason.SANDBOX_MALFORMED: Row(
        "SandboxError", Code.INVALID_ARGUMENT, 2, False, "The sandbox is not a gzip-compressed tar archive."
    ),
    Reason.LOG_OFFSET: Row(
        "RequestError", Code.OUT_OF_RANGE, 1, False, "The log chunk does not follow what is stored."
    ),
    Reason.OUTPUT_MISSING: Row("SandboxError", Code.FAILED_PRECONDITION, 1, False, "A declared output was not made."),
    # the pilot and the wrapper
    Reason.WRAPPER_PROTOCOL: Row(
        "PilotError", Code.INTERNAL, 1, True, "The wrapper said something it may not say, or nothing."
    ),
    Reason.PAYLOAD_FAILED: Row("PilotError", Code.ABORTED, 1, False, "The payload ended with an error."),
    Reason.LIMIT_WALL_TIME: Row("PilotError", Code.ABORTED, 1, False, "The payload ran longer than it may."),
    Reason.LIMIT_MEMORY: Row("PilotError", Code.ABORTED, 1, False, "The payload used more memory than it may."),
    Reason.LIMIT_DISK: Row("PilotError", Code.ABORTED, 1, False, "The payload used more disk than it may."),
    Reason.LIMIT_CPU_TIME: Row("PilotError", Code.ABORTED, 1, False, "The payload used more CPU time than it may."),
    Reason.HELPER_PROBE_FAILED: Row(
        "PilotError",
        Code.FAILED_PRECONDITION,
        1,
        False,
        "The helper does not work on this node; the pilot takes no job.",
    ),
    Reason.PILOT_DRAINING: Row("PilotError", Code.ABORTED, 1, True, "The pilot is leaving and starts nothing new."),
    Reason.WORKSPACE_UNUSABLE: Row(
        "PilotError", Code.FAILED_PRECONDITION, 1, True, "The pilot's work directory cannot be used."
    ),
    Reason.COMMAND_NOT_FOUND: Row("PilotError", Code.ABORTED, 1, False, "The payload's program was not found."),
    Reason.ENVIRONMENT_REFUSED: Row(
        "PilotError", Code.ABORTED, 1, False, "The payload asked for an environment variable that is never set."
    ),
    Reason.INPUT_FAILED: Row(
        "PilotError", Code.ABORTED, 1, True, "The input sandbox could not be brought to the payload."
    ),
    Reason.OUTPUT_FAILED: Row("PilotError", Code.ABORTED, 1, True, "The outputs could not be brought to the server."),
    Reason.HELPER_LOG_ONLY: Row(
        "PilotError",
        Code.ABORTED,
        1,
        True,
        "The helper of this node runs payloads as the pilot (mode = log-only); the pilot's site wants the switch.",
    ),
    # the VOMS client
    Reason.VOMSES_NOT_FOUND: Row(
        "ConfigError",
        Code.FAILED_PRECONDITION,
        2,
        False,
        "No vomses file names a VOMS server of this VO; ask the VO for its line.",
    ),
    Reason.VOMSES_MALFORMED: Row(
        "ConfigError", Code.FAILED_PRECONDITION, 2, False, "A line of a vomses file is not five or six quoted fields."
    ),
    Reason.VOMS_SERVER_UNREACHABLE: Row(
        "ServiceError", Code.UNAVAILABLE, 5, True, "No VOMS server of the VO can be reached; try again."
    ),
    Reason.VOMS_SERVER_IDENTITY: Row(
        "ServiceError",
        Code.UNAUTHENTICATED,
        5,
        False,
        "The VOMS server did not prove to be the one of the vomses file.",
    ),
    Reason.VOMS_SERVER_REFUSED: Row(
        "CredentialError", Code.FAILED_PRECONDITION, 4, False, "The VOMS server refused the request for attributes."
    ),
    Reason.VOMS_SERVER_FAILED: Row(
        "ServiceError", Code.UNAVAILABLE, 5, True, "The VOMS server met a fault of its own; try again."
    ),
    Reason.VOMS_NOT_MEMBER: Row(
        "CredentialError", Code.FAILED_PRECONDITION, 4, False, "The VOMS server does not know this person as a member."
    ),
    Reason.VOMS_SUSPENDED: Row(
        "CredentialError", Code.FAILED_PRECONDITION, 4, False, "The person's membership of the VO is suspended."
    ),
    Reason.VOMS_SUBSET: Row(
        "CredentialError",
        Code.FAILED_PRECONDITION,
        4,
        False,
        "The VOMS server gave fewer attributes than asked for, or another one first.",
    ),
    Reason.VOMS_ANSWER_MALFORMED: Row(
        "ServiceError", Code.UNAVAILABLE, 5, False, "The VOMS server's answer cannot be used."
    ),
    # accounting
    Reason.AUDIT_FILE_UNUSABLE: Row(
        "RequestError",
        Code.INVALID_ARGUMENT,
        2,
        False,
        "An audit file cannot be read to its end.",
    ),
    Reason.EXPORT_FAILED: Row(
        "ServiceError", Code.UNAVAILABLE, 5, True, "The export could not be written; what is there already is whole."
    ),
}
