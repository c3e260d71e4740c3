"""Keep gRPC's fork handlers out of the tests; imported before anything that imports gRPC.

The tests start programs as other accounts, which makes `subprocess` fork where gRPC's threads run. gRPC's
handlers have then been seen to spoil the child before it becomes the program. No test uses gRPC in a forked child.
"""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
