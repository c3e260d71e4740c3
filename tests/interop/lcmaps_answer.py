"""Ask Debian's LCMAPS which account a proxy maps to, by the library call that gLExec's relatives use.

usage: lcmaps_answer.py PROXY. The database and directories come from LCMAPS's own variables. One line of JSON: `ok`,
`uid`, `gids` (primary ones, then others). A process of its own, because LCMAPS ends with what it has loaded.
"""

import ctypes
import json
import sys


class Account(ctypes.Structure):
    """`lcmaps_account_info_t` of lcmaps_account.h."""

    _fields_ = (
        ("uid", ctypes.c_uint),
        ("pgid_list", ctypes.POINTER(ctypes.c_uint)),
        ("npgid", ctypes.c_int),
        ("sgid_list", ctypes.POINTER(ctypes.c_uint)),
        ("nsgid", ctypes.c_int),
        ("poolindex", ctypes.c_char_p),
    )


def main() -> None:
    """Map one proxy."""
    lcmaps = ctypes.CDLL("liblcmaps.so.0", mode=ctypes.RTLD_GLOBAL)
    face = ctypes.CDLL("liblcmaps_return_account_from_pem.so.0", mode=ctypes.RTLD_GLOBAL)
    with open(sys.argv[1], "rb") as file:
        proxy = file.read()
    account = Account()
    lcmaps.lcmaps_account_info_init(ctypes.byref(account))
    failed = lcmaps.lcmaps_init(None) or face.lcmaps_return_account_from_pem(proxy, -1, ctypes.byref(account))
    primary = [account.pgid_list[i] for i in range(account.npgid)] if not failed else []
    secondary = [account.sgid_list[i] for i in range(account.nsgid)] if not failed else []
    print(json.dumps({"ok": not failed, "uid": account.uid, "primary": primary, "secondary": secondary}))


main()
