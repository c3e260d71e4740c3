"""TLS 1.3 and nothing older, for a whole program.

gRPC Python has no option for the lowest TLS version. But the list of TLS 1.2 ciphers can be set
for a process, by an environment variable that gRPC reads when it is first imported; with nothing
in it but a pre-shared-key cipher, for which there never is a key, only TLS 1.3 is left (tried
against both versions, as client and as server). The library does not do this to programs that
merely import it; ours call it in their first line.
"""

import os
import sys

VARIABLE = "GRPC_SSL_CIPHER_SUITES"
UNUSABLE_BELOW_13 = "ECDHE-PSK-CHACHA20-POLY1305"


def require_tls13() -> None:
    """Make gRPC in this process refuse TLS 1.2, as client and as server; call before importing it."""
    if "grpc" in sys.modules and os.environ.get(VARIABLE) != UNUSABLE_BELOW_13:
        raise RuntimeError("require_tls13() comes too late: gRPC is imported already")
    os.environ[VARIABLE] = UNUSABLE_BELOW_13
