"""The part of HPACK (RFC 7541) that a gRPC load generator needs: indexed requests out, `grpc-status` in.

A general decoder would cost more than the rest of the generator. This one keeps the
dynamic table exactly (or refuses), and remembers blocks that it has already read.
"""

from collections import deque

TABLE_BYTES = 4096  # RFC 7541 4.2: the size both sides begin with
ENTRY_OVERHEAD_BYTES = 32  # RFC 7541 4.1
OPAQUE = "?"  # a Huffman-coded string: its length on the wire is known, its text is not
INDEXED, LITERAL_INDEXED = 0x80, 0x40  # RFC 7541 6: a field by its first octet
TABLE_SIZE, TABLE_SIZE_MASK = 0x20, 0xE0
MORE = 0x80  # RFC 7541 5.1: another octet of the integer follows
LOW_BITS = 0x7F

# RFC 7541 appendix A, in order; values are not needed, since none is a grpc-status.
# fmt: off
STATIC_NAMES = (
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status",
    ":status", ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
    "authorization", "cache-control", "content-disposition", "content-encoding", "content-language",
    "content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag",
    "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "last-modified", "link", "location", "max-forwards", "proxy-authenticate",
    "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
    "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
)
# fmt: on

METHOD_POST = b"\x83"
SCHEME_BYTES = {"http": b"\x86", "https": b"\x87"}

Headers = list[tuple[str, str]]


class HpackError(Exception):
    """The peer's header block is broken, or uses a part of HPACK that is not implemented here."""


class RequestHeaders:
    """The header block of one request, repeated: in full the first time, as indexes from then on."""

    def __init__(self, scheme: str, headers: Headers) -> None:
        size_bytes = sum(len(name) + len(value) + ENTRY_OVERHEAD_BYTES for name, value in headers)
        if size_bytes > TABLE_BYTES:
            raise ValueError(f"the request's headers need {size_bytes} bytes of the table's {TABLE_BYTES}")
        fixed = METHOD_POST + SCHEME_BYTES[scheme]
        newest = len(STATIC_NAMES) + len(headers)
        self.first = fixed + b"".join(_literal(name) + _text(value) for name, value in headers)
        self.repeated = fixed + bytes(INDEXED | (newest - position) for position in range(len(headers)))


class ResponseHeaders:
    """Decodes the header blocks of one connection, in order."""

    def __init__(self) -> None:
        self._table: deque[tuple[str, str, int]] = deque()
        self._table_bytes = 0
        self._limit_bytes = TABLE_BYTES
        self._known: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        """The block's headers; a Huffman-coded string is given as `OPAQUE`.

        Raises:
            HpackError: the block cannot be read, or would leave the table unknown.
        """
        if (known := self._known.get(block)) is not None:
            return known
        headers, table_changed = self._read(block)
        if table_changed:
            self._known.clear()  # the same bytes may mean something else now
        else:
            self._known[block] = headers
        return headers

    def _read(self, block: bytes) -> tuple[Headers, bool]:
        headers: Headers = []
        table_changed = False
        position = 0
        try:
            while position < len(block):
                octet = block[position]
                if octet & INDEXED:
                    index, position = _integer(block, position, prefix_bits=7)
                    headers.append(self._entry(index))
                elif octet & TABLE_SIZE_MASK == TABLE_SIZE:
                    size, position = _integer(block, position, prefix_bits=5)
                    self._resize(size)
                    table_changed = True
                else:
                    inserts = bool(octet & LITERAL_INDEXED)
                    header, position = self._literal_header(block, position, inserts=inserts)
                    headers.append(header)
                    table_changed = table_changed or inserts
        except IndexError:
            raise HpackError("a header block ends early or names an entry that is not there") from None
        return headers, table_changed

    def _literal_header(self, block: bytes, position: int, *, inserts: bool) -> tuple[tuple[str, str], int]:
        index, position = _integer(block, position, prefix_bits=6 if inserts else 4)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        if inserts:
            if OPAQUE in {name, value}:
                raise HpackError("a Huffman-coded entry for the dynamic table is not supported")
            self._insert(name, value)
        return (name, value), position

    def _entry(self, index: int) -> tuple[str, str]:
        if index == 0:
            raise HpackError("index 0 names no header")
        if index <= len(STATIC_NAMES):
            return STATIC_NAMES[index - 1], OPAQUE
        name, value, _ = self._table[index - len(STATIC_NAMES) - 1]
        return name, value

    def _insert(self, name: str, value: str) -> None:
        size_bytes = len(name) + len(value) + ENTRY_OVERHEAD_BYTES
        self._table.appendleft((name, value, size_bytes))
        self._table_bytes += size_bytes
        self._evict()

    def _resize(self, limit_bytes: int) -> None:
        if limit_bytes > TABLE_BYTES:
            raise HpackError("the peer's table is larger than was offered")
        self._limit_bytes = limit_bytes
        self._evict()

    def _evict(self) -> None:
        while self._table_bytes > self._limit_bytes:
            self._table_bytes -= self._table.pop()[2]


def _integer(block: bytes, position: int, *, prefix_bits: int) -> tuple[int, int]:
    """RFC 7541 5.1. The value, and the position after it."""
    full = (1 << prefix_bits) - 1
    value = block[position] & full
    position += 1
    if value < full:
        return value, position
    shift = 0
    while True:
        octet = block[position]
        position += 1
        value += (octet & LOW_BITS) << shift
        shift += 7
        if not octet & MORE:
            return value, position


def _string(block: bytes, position: int) -> tuple[str, int]:
    huffman = block[position] & 0x80
    length, start = _integer(block, position, prefix_bits=7)
    end = start + length
    if end > len(block):
        raise HpackError("a string reaches beyond its block")
    return OPAQUE if huffman else block[start:end].decode("latin-1"), end


def _literal(name: str) -> bytes:
    return bytes([LITERAL_INDEXED]) + _text(name)


def _text(text: str) -> bytes:
    raw = text.encode("latin-1")
    return _length(len(raw)) + raw


def _length(length: int) -> bytes:
    """RFC 7541 5.1 with a 7-bit prefix and no Huffman bit."""
    if length < LOW_BITS:
        return bytes([length])
    rest = length - LOW_BITS
    octets = bytearray([LOW_BITS])
    while rest >= MORE:
        octets.append(rest & LOW_BITS | MORE)
        rest >>= 7
    octets.append(rest)
    return bytes(octets)
