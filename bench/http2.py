"""The client side of one HTTP/2 connection of unary gRPC calls (RFC 9113), sans-I/O.

Why not grpcio's own client: it takes about as much CPU for a call as the server under
test, so it would measure itself. This one sends each call as two frames made
once, and reads the answers by their frame headers; everything it does not understand
is an error, never a success.
"""

import struct
from dataclasses import dataclass

from bench.hpack import TABLE_BYTES, Headers, RequestHeaders, ResponseHeaders

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER = struct.Struct(">HBBBL")  # length (16 + 8 bits), type, flags, stream
FRAME_HEADER_BYTES = FRAME_HEADER.size
GRPC_PREFIX_BYTES = 5  # compressed flag, length
INITIAL_WINDOW_BYTES = 65_535  # RFC 9113 6.9.2
WIDE_WINDOW_BYTES = 2**31 - 1
REPLENISH_BYTES = 2**30
MAX_FRAME_BYTES = 16_384

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 3, 4, 5, 6, 7, 8, 9,
)  # fmt: skip
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20
SETTINGS_HEADER_TABLE_SIZE, SETTINGS_INITIAL_WINDOW_SIZE = 1, 4
SETTING = struct.Struct(">HL")


class Http2Error(Exception):
    """The connection cannot go on: the peer broke it off, or sent what is not implemented here."""


@dataclass(slots=True)
class Call:
    """One call under way. `message_bytes` counts the answer without its gRPC prefix."""

    started: float
    message_bytes: int = -GRPC_PREFIX_BYTES
    status: str = "no grpc-status"


class ClientConnection:
    """Bytes in, finished calls out. Times are the caller's own."""

    def __init__(self, *, scheme: str, authority: str, path: str, metadata: Headers) -> None:
        headers = [
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "token-broker-bench"),
            *metadata,
        ]
        self.calls: dict[int, Call] = {}
        self._headers = RequestHeaders(scheme, headers)
        self._block = self._headers.first
        self._responses = ResponseHeaders()
        self._next_stream = 1
        self._unread = b""
        self._outgoing: list[bytes] = []
        self._send_window_bytes = INITIAL_WINDOW_BYTES
        self._consumed_bytes = 0

    def opening(self) -> bytes:
        """The preface, and windows wide enough that no answer waits for an update."""
        settings = SETTING.pack(SETTINGS_INITIAL_WINDOW_SIZE, WIDE_WINDOW_BYTES)
        return (
            PREFACE
            + _frame(SETTINGS, 0, 0, settings)
            + _window_update(WIDE_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
        )

    def may_send(self, message: bytes) -> bool:
        """Whether the peer's window has room for the message (gRPC prefix included)."""
        return len(message) <= self._send_window_bytes

    def send(self, message: bytes, now: float) -> None:
        """Begins a call; the bytes go out with the next `take_outgoing`.

        Args:
            message: the request as it stands on the wire, with its gRPC prefix; one frame at most.
            now: the time from which the call's latency counts, in seconds.
        """
        stream = self._next_stream
        self._next_stream += 2
        self._send_window_bytes -= len(message)
        self.calls[stream] = Call(now)
        self._outgoing += (
            _frame(HEADERS, END_HEADERS, stream, self._block),
            _frame(DATA, END_STREAM, stream, message),
        )
        self._block = self._headers.repeated

    def take_outgoing(self) -> bytes:
        """What is to be written now."""
        outgoing = b"".join(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def receive(self, data: bytes) -> list[Call]:
        """Reads what came, and returns the calls that it finished.

        Raises:
            Http2Error: the connection is of no more use.
            HpackError: likewise.
        """
        unread = self._unread + data if self._unread else data
        finished: list[Call] = []
        try:
            position = self._read_frames(unread, finished)
        except KeyError:
            raise Http2Error("a frame for a stream that is not open") from None
        self._unread = unread[position:]
        return finished

    def _read_frames(self, unread: bytes, finished: list[Call]) -> int:
        """Reads the whole frames, and returns where the first incomplete one begins."""
        position, end = 0, len(unread)
        while end - position >= FRAME_HEADER_BYTES:
            high, low, kind, flags, stream = FRAME_HEADER.unpack_from(unread, position)
            body = position + FRAME_HEADER_BYTES
            following = body + (high << 8 | low)
            if following > end:
                break
            position = following
            if kind == DATA:
                self._on_data(flags, stream, following - body, finished)
            elif kind == HEADERS:
                self._on_headers(flags, stream, unread[body:following], finished)
            else:
                self._on_control(kind, flags, stream, unread[body:following], finished)
        return position

    def _on_data(self, flags: int, stream: int, length_bytes: int, finished: list[Call]) -> None:
        if flags & PADDED:
            raise Http2Error("padded frames are not supported")
        self._consumed_bytes += length_bytes
        if self._consumed_bytes >= REPLENISH_BYTES:
            self._outgoing.append(_window_update(self._consumed_bytes))
            self._consumed_bytes = 0
        self.calls[stream].message_bytes += length_bytes
        if flags & END_STREAM:
            finished.append(self.calls.pop(stream))

    def _on_headers(self, flags: int, stream: int, block: bytes, finished: list[Call]) -> None:
        if flags & (PADDED | PRIORITY) or not flags & END_HEADERS:
            raise Http2Error("padded, prioritised and continued headers are not supported")
        headers = self._responses.decode(block)
        if flags & END_STREAM:
            call = self.calls.pop(stream)
            call.status = next((value for name, value in headers if name == "grpc-status"), call.status)
            finished.append(call)

    def _on_control(self, kind: int, flags: int, stream: int, body: bytes, finished: list[Call]) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._on_settings(body)
        elif kind == PING and not flags & ACK:
            self._outgoing.append(_frame(PING, ACK, 0, body))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._send_window_bytes += int.from_bytes(body)
        elif kind == RST_STREAM and stream in self.calls:
            call = self.calls.pop(stream)
            call.status = f"reset {int.from_bytes(body)}"
            finished.append(call)
        elif kind == GOAWAY:
            raise Http2Error(f"the server closes the connection (GOAWAY {int.from_bytes(body[4:8])})")
        elif kind in {PUSH_PROMISE, CONTINUATION}:
            raise Http2Error(f"frame type {kind} is not supported")

    def _on_settings(self, body: bytes) -> None:
        for setting, value in SETTING.iter_unpack(body):
            if setting == SETTINGS_INITIAL_WINDOW_SIZE and value < MAX_FRAME_BYTES:
                raise Http2Error(f"a stream window of {value} bytes is not supported")
            if setting == SETTINGS_HEADER_TABLE_SIZE and value < TABLE_BYTES:
                raise Http2Error(f"a header table of {value} bytes is not supported")
        self._outgoing.append(_frame(SETTINGS, ACK, 0, b""))


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    length = len(body)
    return FRAME_HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream) + body


def _window_update(increment_bytes: int) -> bytes:
    return _frame(WINDOW_UPDATE, 0, 0, increment_bytes.to_bytes(4))
