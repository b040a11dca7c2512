"""What all tests of receiving need."""

import socket
from collections.abc import Iterator

import pytest

from tests.support.multicast import Sender
from tests.support.netns import Veth, inside, veth_pair
from tests.support.wait import wait_for

SO_TIMESTAMPING, RX_SOFTWARE, SOFTWARE = 37, 1 << 3, 1 << 4  # linux/net_tstamp.h


@pytest.fixture(scope="session", autouse=True)
def kernel_stamps_packets() -> Iterator[None]:
    """Keep a socket open that asks for times: the kernel begins to stamp a moment after the first one does.

    Packets of that moment have no time; a test that opens a source and sends at once would meet it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kept:
        kept.bind(("127.0.0.1", 0))
        kept.settimeout(5)
        kept.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)

        def stamped() -> bool:
            kept.sendto(b"", kept.getsockname())
            return bool(kept.recvmsg(0, 256)[1])

        wait_for(stamped, "a packet with a time")
        yield


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest) -> Iterator[Veth]:
    """Two namespaces for all tests of a module."""
    with veth_pair(request.path.stem.removeprefix("test_")) as made:
        yield made


@pytest.fixture
def sender(pair: Veth) -> Iterator[Sender]:
    """Send from the sender's namespace."""
    with inside(pair.sender):
        made = Sender(pair.sender_address)
    with made:
        yield made
