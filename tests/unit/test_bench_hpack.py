"""The benchmark's HPACK: what it reads is exact, and what it cannot read it refuses."""

import pytest

from bench.hpack import HpackError, RequestHeaders, ResponseHeaders

# RFC 7541 C.5: three responses without Huffman coding, on a table of 256 bytes.
TABLE_OF_256 = "3fe101"
FIRST = (
    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
    "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"
)
SECOND = "4803333037c1c0bf"
EVICTED = b"\xc2"  # the fifth entry, where four have room


def test_a_table_that_evicts_still_names_the_right_entries() -> None:
    """grpc-status comes as an index: a table off by one would turn failures into successes."""
    headers = ResponseHeaders()
    headers.decode(bytes.fromhex(TABLE_OF_256))

    headers.decode(bytes.fromhex(FIRST))

    assert headers.decode(bytes.fromhex(SECOND)) == [
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ]
    with pytest.raises(HpackError):
        headers.decode(EVICTED)


def test_the_same_bytes_are_read_anew_after_the_table_has_changed() -> None:
    """The decoder remembers blocks; an index must not keep its old meaning."""
    headers = ResponseHeaders()
    newest = bytes.fromhex("be")
    headers.decode(b"\x40\x0bgrpc-status\x010")
    assert headers.decode(newest) == [("grpc-status", "0")]

    headers.decode(b"\x40\x0bgrpc-status\x015")

    assert headers.decode(newest) == [("grpc-status", "5")]


@pytest.mark.parametrize(
    "block",
    [b"\xbe", b"\x80", b"\x40\x0bgrpc-sta", b"\x40", b"\x40\x81\xff\x010", b"\x3f\xe1\x5f"],
    ids=[
        "no such entry",
        "index 0",
        "cut short",
        "nothing after it",
        "Huffman into the table",
        "table too large",
    ],
)
def test_a_block_that_cannot_be_read_is_refused(block: bytes) -> None:
    """A guess here would be a wrong count of successes."""
    with pytest.raises(HpackError):
        ResponseHeaders().decode(block)


def test_a_repeated_request_says_the_same_in_a_few_bytes() -> None:
    """Real clients index their headers, and so must a generator that stands for them."""
    long = "v" * 300  # longer than one octet of length can say
    request = RequestHeaders("http", [(":path", "/s/m"), ("te", "trailers"), ("authorization", long)])
    server = ResponseHeaders()

    first = server.decode(request.first)

    assert first[2:] == [(":path", "/s/m"), ("te", "trailers"), ("authorization", long)]
    assert server.decode(request.repeated)[2:] == first[2:]
    assert len(request.repeated) == len(first)


def test_headers_larger_than_the_table_are_refused() -> None:
    """They would be evicted while being sent, and every later request would be wrong."""
    with pytest.raises(ValueError, match="4096"):
        RequestHeaders("http", [("authorization", "v" * 5000)])
