"""A network with nobody in it but this process and its children, in which every address of the world leads back here.

Nothing that is sent there gets lost, so where it was meant to go can be told. For a process that `unshare --net` gave
a network of its own; needs iproute2.
"""

import asyncio
import ipaddress
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

LOOPBACK: Final = "lo"
EVERYWHERE: Final = (("-4", "0.0.0.0/0"), ("-6", "::/0"))
# linux/if_ether.h, linux/if_packet.h.
ETH_P_ALL: Final = 0x0003
ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
# struct tpacket_stats: how many packets there were, and how many found no room.
STATISTICS: Final = struct.Struct("II")
BUFFER_BYTES: Final = 8 * 1024 * 1024
# The headers, and no more.
SNAPSHOT_BYTES: Final = 128
SYN: Final = 0x02
ACK: Final = 0x10


def make_lonely(ip: str) -> None:
    """Let every address lead back to this machine, by the program `ip`."""
    subprocess.run([ip, "link", "set", LOOPBACK, "up"], check=True)
    for family, all_addresses in EVERYWHERE:
        subprocess.run([ip, family, "route", "add", "local", all_addresses, "dev", LOOPBACK], check=True)


@dataclass
class Watch:
    """Attributes: sent_to: each "protocol address port" that was connected or written to. missed: how many packets."""

    sent_to: set[str] = field(default_factory=set)
    missed: int = 0

    def note(self, kind: int, packet: bytes) -> None:
        """Take a packet down, if it begins something."""
        if kind == ETH_P_IP:
            header, protocol, target = (packet[0] & 0x0F) * 4, packet[9], packet[16:20]
        elif kind == ETH_P_IPV6:
            header, protocol, target = 40, packet[6], packet[24:40]
        else:
            return
        address, segment = ipaddress.ip_address(target), packet[header:]
        (port,) = struct.unpack_from("!H", segment, 2)
        if protocol == socket.IPPROTO_TCP and segment[13] & (SYN | ACK) == SYN:
            self.sent_to.add(f"tcp {address} {port}")
        elif protocol == socket.IPPROTO_UDP:
            self.sent_to.add(f"udp {address} {port}")


@contextmanager
def watching() -> Iterator[Watch]:
    """Watches the network until the end of the block. The event loop must run."""
    watch, loop = Watch(), asyncio.get_running_loop()
    with socket.socket(
        socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL)
    ) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        tap.bind((LOOPBACK, ETH_P_ALL))

        def read() -> None:
            while True:
                try:
                    packet, (_, kind, direction, *_) = tap.recvfrom(SNAPSHOT_BYTES)
                except BlockingIOError:
                    return
                if direction == socket.PACKET_OUTGOING:
                    watch.note(kind, packet)

        loop.add_reader(tap, read)
        try:
            yield watch
        finally:
            loop.remove_reader(tap)
            read()
            _, watch.missed = STATISTICS.unpack(
                tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size)
            )
