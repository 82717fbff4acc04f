"""Run a command in a small world of its own: own network, own processes, own temporary files; nothing of it remains.

`python tests/cluster/enter.py COMMAND...`, as root or, where the system lets people have user namespaces, as anybody.
The command finds a loopback device, the addresses of 10.77.0.0/16 for pods, and an empty TMPDIR in memory. When it
ends, or when this process ends in whatever way, the kernel ends every process in there and drops network and files:
leaving nothing behind is no code of ours.
"""

import os
import shutil
import signal
import subprocess
import sys

POD_NETWORK = "10.77.0.0/16"
SCRATCH = "/dev/shm"
INSIDE = "CANARY_CLUSTER_NETWORK"  # set for the command, so that tests know where they are
SET_UP = f"""
ip link set lo up && ip route add local {POD_NETWORK} dev lo && mount -t tmpfs -o mode=1777 canary {SCRATCH} || exit 125
"$@"
exit $?
"""
ADVICE = (
    "cannot make a network of its own for the cluster tests: run them as root, or allow user namespaces "
    "(Debian: sysctl kernel.unprivileged_userns_clone=1); they need unshare and setpriv (util-linux) and ip (iproute2)"
)


def command_line(command: list[str]) -> list[str]:
    """Return the command that runs `command` in there."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    world = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    dies_with_us = ["setpriv", "--pdeathsig=KILL", "--"]
    return [*dies_with_us, "unshare", *user, *world, "--", "sh", "-c", SET_UP, "enter", *command]


def main(command: list[str]) -> int:
    """Run it; return its exit code. Ctrl-C is the command's; SIGTERM ends everything at once."""
    if not all(map(shutil.which, ("setpriv", "unshare", "ip", "mount"))):
        print(ADVICE, file=sys.stderr)
        return 1
    environment = {**os.environ, "TMPDIR": SCRATCH, INSIDE: POD_NETWORK}
    environment["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    world = subprocess.Popen(command_line(command), env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: world.kill())
    code = world.wait()
    if code == 125 or (code == 1 and not _can_unshare()):
        print(ADVICE, file=sys.stderr)
    return code if code >= 0 else 128 - code


def _can_unshare() -> bool:
    return subprocess.run(command_line(["true"]), capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
