"""What the kernel says about the threads of a process."""

from dataclasses import dataclass
from pathlib import Path

from feedhandler.daemon._kernel_files import parse_cpus

SCHED_OTHER, SCHED_FIFO = 0, 1


@dataclass(frozen=True)
class Thread:
    """One thread, as of now. `policy`: SCHED_OTHER or SCHED_FIFO, `priority`: its real-time priority."""

    name: str
    tid: int
    cpus: frozenset[int]
    policy: int
    priority: int
    minor_faults: int
    cpu_ticks: int


def threads_of(pid: int) -> list[Thread]:
    """Return all of them."""
    return [_thread(task) for task in Path(f"/proc/{pid}/task").iterdir()]


def receive_thread_of(pid: int) -> Thread:
    """Return the daemon's receive thread."""
    [thread] = [thread for thread in threads_of(pid) if thread.name == "fh-receive"]
    return thread


def _thread(task: Path) -> Thread:
    status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
    stat = (task / "stat").read_text().rpartition(")")[2].split()  # from field 3 on, see proc_pid_stat(5)
    return Thread(
        name=status["Name"].strip(),
        tid=int(task.name),
        cpus=frozenset(parse_cpus(status["Cpus_allowed_list"].strip())),
        policy=int(stat[41 - 3]),
        priority=int(stat[40 - 3]),
        minor_faults=int(stat[10 - 3]),
        cpu_ticks=int(stat[14 - 3]) + int(stat[15 - 3]),
    )
