"""The TOML file as frozen models, one a table, with the documented defaults; unknown keys are errors."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from feedhandler.config import _checks as checks

SchemaName = Literal["mbo", "mbp-1", "mbp-10", "trades", "status", "imbalance", "definition"]

PUBLISHERS = {"XNAS.ITCH": 2, "XBOS.ITCH": 3, "XPSX.ITCH": 4}
"""DBN publisher ids of the datasets that carry ITCH 5.0 (Databento's list of publishers)."""


class Table(BaseModel):
    """A table of a configuration file: typed strictly, without unknown keys, never changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _no_repeats(values: Sequence[object]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f'has "{value}" twice')


class Channel(Table):
    """What is received: name, protocol, session, where it starts."""

    name: checks.ChannelName
    protocol: Literal["itch50"] = "itch50"
    dataset: Literal["XNAS.ITCH", "XBOS.ITCH", "XPSX.ITCH"] = "XNAS.ITCH"
    session: checks.Session = ""
    start: Literal["live", "beginning"] = "live"
    trading_day: checks.TradingDay = ""


class Line(Table):
    """One multicast line."""

    name: checks.LineName
    group: checks.Group
    port: checks.Port
    interface: checks.Interface = "127.0.0.1"
    source: checks.Source = ""


class Packet(Table):
    """What `receive.mode = "packet"` asks for."""

    ring_mib: Annotated[int, Field(ge=1, le=4095)] = 16


class Xdp(Table):
    """What `receive.mode = "xdp"` asks for."""

    attach: Literal["auto", "native", "generic"] = "auto"
    zero_copy: Literal["auto", "on", "off"] = "auto"
    frames: Annotated[int, Field(ge=64, le=1 << 20), AfterValidator(checks.power_of_two)] = 4096
    busy_poll: bool = True
    queues: list[Annotated[int, Field(ge=0, le=1023)]] = []

    @field_validator("queues")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        _no_repeats(value)
        return value


class Onload(Table):
    """What `receive.mode = "onload"` asks for."""

    require: bool = True
    launch: bool = False
    launcher: Annotated[str, Field(min_length=1)] = "onload"
    profile: checks.OnloadProfile = "latency"
    stack: checks.OnloadStack = ""
    zero_copy: bool = False


class Dpdk(Table):
    """What `receive.mode = "dpdk"` asks for."""

    ports: dict[str, checks.DpdkPort] = {}
    eal: list[checks.EalArgument] = []
    huge_pages: bool = False
    memory_mib: Annotated[int, Field(ge=16, le=65536)] = 256
    rx_descriptors: Annotated[int, Field(ge=32, le=32768)] = 2048
    plugin: str = ""
    remove_leftover: bool = False


class Receive(Table):
    """The receive thread: how datagrams come in, where it runs."""

    mode: Literal["socket", "packet", "onload", "xdp", "dpdk"] = "socket"
    cpu: Annotated[int, Field(ge=-1, le=8191)] = -1
    spin: bool = True
    priority: Annotated[int, Field(ge=0, le=99)] = 0
    priority_guard: bool = True
    prefault_orders: Annotated[int, Field(ge=0, le=1 << 24)] = 250_000
    idle_latency_us: Annotated[int, Field(ge=-1, le=2_000_000)] = -1
    line_down_s: Annotated[float, Field(gt=0, le=86400)] = 3.0
    hardware_timestamps: bool = False
    hardware_clock: Literal["tai", "utc"] = "tai"
    packet: Packet = Packet()
    xdp: Xdp = Xdp()
    onload: Onload = Onload()
    dpdk: Dpdk = Dpdk()


class Server(Table):
    """One re-request server."""

    address: checks.ServerEndpoint = "127.0.0.1:26500"

    @property
    def host_port(self) -> tuple[str, int]:
        """(IPv4 address, port)."""
        return checks.split_endpoint(self.address)


class Snapshot(Table):
    """The snapshot server (GLIMPSE over SoupBinTCP)."""

    address: checks.ServerEndpoint = "127.0.0.1:26600"
    username: Annotated[str, Field(max_length=6, pattern=r"^[ -~]*$")] = "user"
    password_file: str = "/run/credentials/feedhandler@xnas-itch.service/glimpse"  # noqa: S105 - a path
    first_to_apply_offset: Annotated[int, Field(ge=0, le=1)] = 0

    @property
    def host_port(self) -> tuple[str, int]:
        """(IPv4 address, port)."""
        return checks.split_endpoint(self.address)


class Recovery(Table):
    """How holes are filled."""

    arbitration_ms: Annotated[float, Field(ge=0, le=60_000)] = 1.0
    timeout_ms: Annotated[float, Field(gt=0, le=60_000)] = 50.0
    retries: Annotated[int, Field(ge=0, le=1_000_000)] = 4
    max_outstanding: Annotated[int, Field(ge=1, le=1024)] = 4
    requests_per_s: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    hold_messages: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    server: Annotated[list[Server], Field(max_length=8)] = []
    snapshot: Snapshot | None = None


class Zmq(Table):
    """The ZeroMQ publisher process."""

    endpoint: checks.ZmqEndpoint = "tcp://127.0.0.1:26700"
    snapshot_endpoint: checks.OptionalZmqEndpoint = ""


class Publish(Table):
    """What consumers get: schemas, books, ring."""

    schemas: list[SchemaName] = ["mbp-1", "trades", "status", "imbalance"]
    depth: Annotated[int, Field(ge=1, le=10)] = 10
    ring_mib: checks.RingMib = 64
    symbols: list[checks.Symbol] = []
    zmq: Zmq | None = None

    @field_validator("schemas", "symbols")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        _no_repeats(value)
        return value


class Journal(Table):
    """Raw packets to disk."""

    directory: str = ""
    segment_mib: Annotated[int, Field(ge=1, le=65536)] = 256
    segment_s: Annotated[float, Field(gt=0, le=864_000)] = 3600.0
    retain_gib: Annotated[float, Field(ge=0, le=1_000_000)] = 100.0
    retain_days: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    compress: bool = True
    sync_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    ring_mib: checks.RingMib = 64


class Clock(Table):
    """How good the host's clocks have to be: by default the limits of RTS 25 for high-frequency trading."""

    max_divergence_us: Annotated[float, Field(gt=0, le=10_000_000)] = 100.0
    granularity_us: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    interval_s: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    mark_records: bool = True


class Metrics(Table):
    """The Prometheus exporter process."""

    listen: checks.ListenEndpoint = "127.0.0.1:9464"


class Latency(Table):
    """How often a packet's way is measured."""

    sample_every: Annotated[int, Field(ge=0, le=1_000_000_000)] = 512


class Config(Table):
    """The whole file."""

    channel: Channel
    line: Annotated[list[Line], Field(min_length=1, max_length=8)]
    receive: Receive = Receive()
    recovery: Recovery = Recovery()
    publish: Publish = Publish()
    journal: Journal = Journal()
    clock: Clock = Clock()
    metrics: Metrics = Metrics()
    latency: Latency = Latency()
    _file: str = PrivateAttr("")
    _overridden: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def came_from(self, file: str, overridden: Mapping[str, str]) -> None:
        """Remember the file, and which variables set which keys, for errors that only the host shows."""
        self._file, self._overridden = file, overridden

    def where(self, key: str) -> str:
        """Return the key behind the file or variable that set it: `feed.toml: line[0].interface`."""
        source = self._overridden.get(key, self._file)
        return f"{source}: {key}" if source else key

    @property
    def publisher_id(self) -> int:
        """DBN publisher id of the dataset."""
        return PUBLISHERS[self.channel.dataset]
