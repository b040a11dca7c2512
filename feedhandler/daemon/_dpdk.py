"""What `receive.mode = "dpdk"` needs of the host and has not, before anything of DPDK is started."""

from pathlib import Path

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.devices import device_of

HOW_TO_GET_IT = "install libdpdk-dev and build feedhandler anew, or name a plugin in receive.dpdk.plugin"


def refusal(config: Config) -> tuple[str, str] | None:
    """Return the key and why it cannot be; None when it may, or when another mode is chosen."""
    if config.receive.mode != "dpdk":
        return None
    dpdk = config.receive.dpdk
    plugin = dpdk.plugin or _core.default_dpdk_plugin()
    if not Path(plugin).is_file():
        if dpdk.plugin:
            return "receive.dpdk.plugin", f'"{plugin}" is not there'
        return "receive.mode", f'"dpdk" is not in this build ({plugin} is not there): {HOW_TO_GET_IT}'
    for index, line in enumerate(config.line):
        device = device_of(line.interface)
        if device is not None and device not in (device_of(name) for name in dpdk.ports):
            known = ", ".join(dpdk.ports)
            return "receive.dpdk.ports", f"has no port for {device} of line[{index}], only for {known}"
    return None
