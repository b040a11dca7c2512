"""Checks of single values; each raises ValueError with what is allowed, to be put behind the value."""

import datetime
import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME_RULE = "of letters, digits, _ . -, not starting with . or -"


def channel_name(value: str) -> str:
    """Accept what can be a folder, a topic root and a label at once."""
    if not _NAME.fullmatch(value) or len(value) > 63:
        raise ValueError(f"is not a channel name (1 to 63 {_NAME_RULE})")
    return value


def line_name(value: str) -> str:
    """Accept what fits a label and 15 characters of shared memory."""
    if not _NAME.fullmatch(value) or len(value) > 15:
        raise ValueError(f"is not a line name (1 to 15 {_NAME_RULE})")
    return value


def multicast_group(value: str) -> str:
    """Accept an IPv4 multicast address."""
    try:
        is_group = ipaddress.IPv4Address(value).is_multicast
    except ValueError:
        is_group = False
    if not is_group:
        raise ValueError("is not an IPv4 multicast address")
    return value


def unicast_source(value: str) -> str:
    """Accept "" or the IPv4 address of a sender."""
    if value == "":
        return value
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        address = None
    if address is None or address.is_multicast or int(address) in (0, 2**32 - 1):
        raise ValueError('is not the IPv4 address of a sender, nor "" for any')
    return value


def interface(value: str) -> str:
    """Accept an IPv4 address or what may be a device's name; not whether it is here."""
    if re.fullmatch(r"[0-9.]+", value):
        try:
            ipaddress.IPv4Address(value)
        except ValueError:
            raise ValueError("is not an IPv4 address or a device name") from None
    elif not re.fullmatch(r"[^\s/:]{1,15}", value) or not value.isprintable():
        raise ValueError("is not an IPv4 address or a device name")
    return value


def dpdk_port(value: str) -> str:
    """Accept the PCI address of a card, or a virtual device with its arguments; not whether it is here."""
    card = re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](,.*)?", value)
    if not card and not re.fullmatch(r"net_[a-z0-9_]+(,.*)?", value):
        raise ValueError(
            'is not a PCI address (as in "0000:3b:00.0") or a virtual device of DPDK '
            '(as in "net_af_packet0,iface=eth0")'
        )
    return value


def session(value: str) -> str:
    """Accept "" or a MoldUDP64 session: up to 10 printable ASCII characters, compared verbatim."""
    if len(value) > 10 or not value.isascii() or (value and not value.isprintable()):
        raise ValueError("is not a MoldUDP64 session (up to 10 printable ASCII characters)")
    return value


def trading_day(value: str) -> str:
    """Accept "" or a date."""
    if value == "":
        return value
    try:
        day = datetime.date.fromisoformat(value)
    except ValueError:
        day = None
    if day is None or day.isoformat() != value or not 1970 <= day.year <= 2261:
        raise ValueError('is not a date (YYYY-MM-DD from 1970 to 2261, or "" for today)')
    return value


def symbol(value: str) -> str:
    """Accept a stock symbol of the feed: up to 8 printable ASCII characters without spaces."""
    if not 1 <= len(value) <= 8 or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("is not a symbol (1 to 8 ASCII characters without spaces)")
    return value


def split_endpoint(value: str) -> tuple[str, int]:
    """Return (IPv4 address, port) of "ADDRESS:PORT"; ValueError when it is not one."""
    host, _, port = value.rpartition(":")
    ipaddress.IPv4Address(host)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("port")
    return host, int(port)


def server_endpoint(value: str) -> str:
    """Accept ADDRESS:PORT of a server."""
    try:
        split_endpoint(value)
    except ValueError:
        raise ValueError('is not an IPv4 address and port (as in "127.0.0.1:26500")') from None
    return value


def listen_endpoint(value: str) -> str:
    """Accept "" or ADDRESS:PORT to listen on."""
    if value:
        server_endpoint(value)
    return value


def network(value: str) -> str:
    """Accept an IPv4 network or address."""
    try:
        ipaddress.IPv4Network(value)
    except ValueError:
        raise ValueError('is not an IPv4 network (as in "10.1.2.0/24") or address') from None
    return value


def zmq_endpoint(value: str) -> str:
    """Accept the ZeroMQ transports that the publisher binds."""
    kind, _, rest = value.partition("://")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        if re.fullmatch(r"[^\s:/]+", host) and re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535:
            return value
    # sun_path has 108 bytes; the last one is NUL
    if kind == "ipc" and 1 <= len(rest.encode()) <= 107 and "\0" not in rest:
        return value
    raise ValueError('is not a ZeroMQ endpoint (as in "tcp://127.0.0.1:26700" or "ipc:///run/feed.ipc")')


def optional_zmq_endpoint(value: str) -> str:
    """Accept "" or what `zmq_endpoint` accepts."""
    return zmq_endpoint(value) if value else value


def onload_stack(value: str) -> str:
    """Accept "" or what Onload takes for a stack's name beside its own suffix: up to 8 characters."""
    if value and (not _NAME.fullmatch(value) or len(value) > 8):
        raise ValueError(f"is not a name for a stack (up to 8 {_NAME_RULE})")
    return value


def onload_profile(value: str) -> str:
    """Accept "" or names or files of profiles, with commas between them."""
    if value and not re.fullmatch(r"[A-Za-z0-9_./-]+(,[A-Za-z0-9_./-]+)*", value):
        raise ValueError('is not a profile of Onload (as in "latency" or "latency,mine")')
    return value


def eal_argument(value: str) -> str:
    """Accept a word for DPDK's EAL, but for those on which it ends the process."""
    if value in ("-h", "--help"):
        raise ValueError("is not for a daemon: DPDK prints its help and ends the process")
    return value


def power_of_two(value: int) -> int:
    """Accept a power of two."""
    if value & (value - 1):
        raise ValueError("is not a power of two")
    return value


ChannelName = Annotated[str, AfterValidator(channel_name)]
LineName = Annotated[str, AfterValidator(line_name)]
Group = Annotated[str, AfterValidator(multicast_group)]
Source = Annotated[str, AfterValidator(unicast_source)]
Interface = Annotated[str, AfterValidator(interface)]
EalArgument = Annotated[str, AfterValidator(eal_argument)]
DpdkPort = Annotated[str, AfterValidator(dpdk_port)]
Session = Annotated[str, AfterValidator(session)]
TradingDay = Annotated[str, AfterValidator(trading_day)]
Symbol = Annotated[str, AfterValidator(symbol)]
ServerEndpoint = Annotated[str, AfterValidator(server_endpoint)]
ListenEndpoint = Annotated[str, AfterValidator(listen_endpoint)]
Network = Annotated[str, AfterValidator(network)]
ZmqEndpoint = Annotated[str, AfterValidator(zmq_endpoint)]
OptionalZmqEndpoint = Annotated[str, AfterValidator(optional_zmq_endpoint)]
OnloadStack = Annotated[str, AfterValidator(onload_stack)]
OnloadProfile = Annotated[str, AfterValidator(onload_profile)]
Port = Annotated[int, Field(ge=1, le=65535)]
RingMib = Annotated[int, Field(ge=1, le=65536), AfterValidator(power_of_two)]
