"""What the figures were measured on, and the means to keep contestants off each other's core."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROC = Path("/proc")
PACKAGES = ("grpcio", "protobuf", "uvloop", "psycopg")
KIB_PER_GIB = 1024**2
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cores:
    """The core of the server under test and the core of what asks it. None: not pinned."""

    server: int | None
    load: int | None


def cores() -> Cores:
    """Two different cores of those this process may use; none where there are no two, or no way to pin."""
    usable = _usable_cores()
    if len(usable) < len({"server", "load"}):
        return Cores(None, None)
    return Cores(server=usable[0], load=usable[-1])


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes started inside, and all their threads, stay on that core."""
    if core is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def facts() -> dict[str, object]:
    """CPU, cores, memory, and the versions that decide the figures."""
    chosen = cores()
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(_usable_cores()) or os.cpu_count(),
        "pinned": chosen.server is not None,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: _version(name) for name in PACKAGES},
    }


def cpu_seconds(root_pid: int) -> float | None:
    """User and system time that a process and its living descendants have used; None without /proc."""
    usage = _processes()
    if root_pid not in usage:
        return None
    family = {root_pid}
    # A child's pid may be lower than its parent's once pids wrap, so look until nothing is added.
    while more := {pid for pid, (parent, _) in usage.items() if parent in family} - family:
        family |= more
    return sum(usage[pid][1] for pid in family) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """The memory one process holds (RSS); None without /proc."""
    try:
        resident_pages = (PROC / str(pid) / "statm").read_text().split()[1]
    except OSError:
        return None
    return int(resident_pages) * os.sysconf("SC_PAGE_SIZE")


def _processes() -> dict[int, tuple[int, int]]:
    """Each process's parent and its CPU time in clock ticks (proc(5), /proc/PID/stat)."""
    found = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has ended meanwhile
        fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces
        found[int(stat.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def _usable_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def _cpu_model() -> str:
    for line in _lines(PROC / "cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or UNKNOWN


def _memory_gib() -> float | None:
    for line in _lines(PROC / "meminfo"):
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / KIB_PER_GIB, 1)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
