"""Keys, requests, proxy certificates and the files they live in.

Nothing here decides whether a chain is genuine: that is the C verifier's task alone. This package
makes what the verifier will judge, and reads what belongs to its own caller.
"""
