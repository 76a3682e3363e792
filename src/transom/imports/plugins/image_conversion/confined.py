"""Becomes another program, after giving up nearly everything that a process may do.

python -I -S confined.py '{"parent": …, "limits": {…}, "read": […], "write": …}' PROGRAM ARGUMENT…

It runs on its own, before anything of Transom is loaded, so it knows the standard library only. In
this order: the program dies with the process that asked for it (`parent`, its pid); it gains no new
rights; it has the resource limits in `limits`; it is in a network of its own, without a way out; it
may open system files, the files in `read` and what is in the folder `write`, and nothing else.
The network and the files are the kernel's to grant (namespaces, and Landlock since Linux 5.13): where
it has not got them or forbids them, the program runs without; limits and rights always hold.

`--what` instead of all that prints, as JSON, which of the two this machine grants.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys

_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/crypto-policies", "/etc/gnutls", "/etc/gcrypt",
    "/proc/self", "/sys/devices/system/cpu", "/dev/zero", "/dev/urandom",
)  # fmt: skip
"""What a program needs in order to begin: its libraries, and what those look at."""

_GRACE_SECONDS = 2
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

# Landlock's system calls and rights, as in linux/landlock.h; the numbers are the same everywhere.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = (
    1 << bit for bit in (0, 1, 2, 3, 5, 8, 14)
)
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights each version knows; later ones know as many as 5 at least."""
_NETWORK_SINCE, _SCOPE_SINCE = 4, 6
_ALL_TCP = 3
_ALL_SCOPES = 3

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It was gone before the line above.
        os.kill(os.getpid(), signal.SIGKILL)


def leave_network() -> bool:
    """Go where there is no network; False when the kernel does not allow it."""
    alone = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    return bool(_libc.unshare(alone) == 0)


def landlock_version() -> int:
    """The version of Landlock that the kernel grants; 0 = none."""
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(0, version)


def close_files(read: list[str], write: str) -> bool:
    """Open nothing from now on but system files, `read`, and what is in `write`. False when the
    kernel cannot; raises OSError when it does not."""
    version = landlock_version()
    if not version:
        return False
    rights = (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1
    facts = struct.pack(
        "=QQQ",
        rights,
        _ALL_TCP if version >= _NETWORK_SINCE else 0,
        _ALL_SCOPES if version >= _SCOPE_SINCE else 0,
    )
    # Older kernels know a shorter structure, and refuse a longer one unless the rest is zero.
    ruleset = _libc.syscall(_CREATE_RULESET, facts, ctypes.c_size_t(len(facts)), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for path in _SYSTEM:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            _allow(ruleset, path, rights & (_EXECUTE | _READ_FILE | _READ_DIR))
    # To write there changes nothing; qemu-img tries the locks of files on it.
    _allow(ruleset, os.devnull, rights & (_READ_FILE | _WRITE_FILE))
    for path in read:
        _allow(ruleset, path, rights & (_EXECUTE | _READ_FILE))
    if write:
        mine = _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
        _allow(ruleset, write, rights & mine)
    if _libc.syscall(_RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)
    return True


def _allow(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - pathlib would double the time that this takes.
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, fd)
        if _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0):
            raise OSError(ctypes.get_errno(), "landlock_add_rule", path)
    finally:
        os.close(fd)


def main(arguments: list[str]) -> None:
    """Become the program; comes back only to raise OSError."""
    if arguments == ["--what"]:
        sys.stdout.write(json.dumps({"files": landlock_version() > 0, "network": leave_network()}))
        return
    wanted = json.loads(arguments[0])
    _die_with(wanted["parent"])
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    leave_network()
    for name, value in wanted["limits"].items():
        number = getattr(resource, name)
        # At the soft limit of processor time comes a signal that tells why, at the hard one a kill.
        more = value + _GRACE_SECONDS if name == "RLIMIT_CPU" else value
        _, most = resource.getrlimit(number)
        if most != resource.RLIM_INFINITY:
            value, more = min(value, most), min(more, most)
        resource.setrlimit(number, (value, more))
    close_files(wanted["read"], wanted["write"])
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - no shell is wanted.


if __name__ == "__main__":
    main(sys.argv[1:])
