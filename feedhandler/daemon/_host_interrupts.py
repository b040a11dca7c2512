"""The interrupts' side of `feedhandler check`: does one fall on the receive thread's CPU?"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._clock import devices_of
from feedhandler.daemon._finding import Finding, ok, warning
from feedhandler.daemon._kernel_files import ROOT, process_names, read, read_cpus


def look(config: Config, root: Path = ROOT) -> Iterator[Finding]:
    """Yield what is found; nothing when the receive thread has no CPU of its own."""
    cpu = config.receive.cpu
    if cpu < 0:
        return
    of_lines: set[int] = set()
    for device in devices_of(config):
        numbers = interrupts_of(device, root)
        of_lines |= numbers
        yield from _of_device(device, numbers, config, root)
    yield from _others(of_lines, cpu, root)
    yield from _balancer(cpu, root)


def interrupts_of(device: str, root: Path = ROOT) -> set[int]:
    """Return the numbers of a device's interrupts, by its folder, else by their names."""
    folder = root / "sys/class/net" / device / "device"
    numbers: set[int] = set()
    for place in (folder, folder.resolve().parent):  # of virtio devices one above has them
        numbers |= {int(path.name) for path in (place / "msi_irqs").glob("[0-9]*")}
        if numbers:
            return numbers
    return set(_named(device, (read(root, "proc/interrupts") or "").splitlines()))


def _named(device: str, lines: Iterable[str]) -> Iterator[int]:
    for line in lines:
        number, _, rest = line.strip().partition(":")
        names = rest.split()[-1:]
        if number.isdigit() and names and device in (names[0], names[0].partition("-")[0]):
            yield int(number)


def cpus_of_interrupt(number: int, root: Path = ROOT) -> set[int]:
    """Return where the kernel has it handled now, or where it may."""
    base = f"proc/irq/{number}"
    return read_cpus(root, f"{base}/effective_affinity_list") or read_cpus(root, f"{base}/smp_affinity_list")


def _of_device(device: str, numbers: Iterable[int], config: Config, root: Path) -> Iterator[Finding]:
    cpu = config.receive.cpu
    if not numbers:
        return
    here = [number for number in sorted(numbers) if cpu in cpus_of_interrupt(number, root)]
    show = _show(here or numbers)
    if not here:
        yield ok(f"{device}.interrupts", f"interrupts of {device} are handled on other CPUs than {cpu}", show)
        return
    text = f"interrupts {_list(here)} of {device} are handled on CPU {cpu}: they stop the receive thread"
    if config.receive.priority:
        text += "; what they leave to ksoftirqd waits behind its priority, packets too"
    yield warning(f"{device}.interrupts", text, _move(here, cpu, root), show)


def _others(of_lines: set[int], cpu: int, root: Path) -> Iterator[Finding]:
    numbers = {int(path.name) for path in (root / "proc/irq").glob("[0-9]*")} - of_lines
    here = [number for number in sorted(numbers) if cpu in cpus_of_interrupt(number, root)]
    if here:
        text = f"{len(here)} interrupts of other devices may be handled on CPU {cpu}"
        yield warning("interrupts", text, _move(here, cpu, root), _show(here))
    elif numbers:
        yield ok("interrupts", f"none of other devices is handled on CPU {cpu}", _show(numbers))


def _balancer(cpu: int, root: Path) -> Iterator[Finding]:
    """It leaves isolated CPUs alone by itself."""
    isolated = read_cpus(root, "sys/devices/system/cpu/isolated")
    if cpu not in isolated and "irqbalance" in process_names(root):
        text = f"irqbalance runs, and may move interrupts to CPU {cpu} at any time"
        remedy = f"IRQBALANCE_BANNED_CPULIST={cpu} in /etc/default/irqbalance, or isolate the CPU"
        yield warning("irqbalance", text, remedy, "systemctl status irqbalance")


def _move(numbers: Iterable[int], cpu: int, root: Path) -> str:
    others = sorted(read_cpus(root, "sys/devices/system/cpu/online") - {cpu})
    target = ",".join(map(str, others)) or "OTHERS"
    return f"for i in {_list(numbers, ' ')}; do echo {target} > /proc/irq/$i/smp_affinity_list; done"


def _show(numbers: Iterable[int]) -> str:
    return f"for i in {_list(numbers, ' ')}; do grep -H . /proc/irq/$i/effective_affinity_list; done"


def _list(numbers: Iterable[int], separator: str = ", ") -> str:
    return separator.join(map(str, sorted(numbers)))
