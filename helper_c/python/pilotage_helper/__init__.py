"""The verifier and the account map of the privileged helper, without any privilege."""

from pilotage_helper.verify import Identity, VerifyOptions, verify_chain, verify_pem

__all__ = ["Identity", "VerifyOptions", "verify_chain", "verify_pem"]
