"""The reference of the API, from the protos and their comments.

The comments say all that a caller needs; this makes them readable and linked. They come from descriptors that protoc
makes with their source, so what stands in docs/api.md is what the stubs are made of.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

PROTOS: Final = Path(__file__).resolve().parent.parent / "proto"
PACKAGE: Final = "tokenbroker.v1"
_REASONS: Final = "ERROR_REASON_"
_MANY: Final = FieldDescriptorProto.Label.LABEL_REPEATED
_CAPITALS: Final = re.compile(r"\b[A-Z]+(?:_[A-Z]+)*\b")
_PRESENCE: Final = re.compile(r"^(Required|Optional|Output only)\. ")
# A run of lines that the comment has moved in: an example, as it is.
_EXAMPLE: Final = re.compile(r"(?:^ {2,}\S.*\n?)+", re.MULTILINE)
# Where descriptor.proto keeps the parts of a file, a message, an enum and a service: how comments name their places.
_IN_FILE: Final = {"messages": 4, "enums": 5, "services": 6}
_IN_PART: Final = 2


class UnreadableProtosError(Exception):
    """protoc does not take the protos."""


class Commented(NamedTuple):
    """A proto with its comments, by their places."""

    file: FileDescriptorProto
    comments: dict[tuple[int, ...], str]

    def about(self, kind: str, index: int, part: int | None = None) -> str:
        """The comment over a part of the file, or over a part of that."""
        inner = () if part is None else (_IN_PART, part)
        return self.comments.get((_IN_FILE[kind], index, *inner), "")


def api_reference() -> str:
    """All services, then all messages, then all enums."""
    protos = read_protos()
    services = (_service(proto, n, it) for proto in protos for n, it in enumerate(proto.file.service))
    messages = (_message(proto, n, it) for proto in protos for n, it in enumerate(proto.file.message_type))
    enums = (_enum(proto, n, it) for proto in protos for n, it in enumerate(proto.file.enum_type))
    parts = [*services, "## Messages", *messages, "## Enums", *enums]
    return "\n\n".join(parts)


@cache
def read_protos() -> tuple[Commented, ...]:
    """Our protos: the calls that services make first, then what operators use, then the reasons of errors.

    Raises:
        UnreadableProtosError: protoc has said why on stderr.
    """
    names = [str(path.relative_to(PROTOS)) for path in sorted((PROTOS / "tokenbroker/v1").glob("*.proto"))]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "descriptors"
        options = [f"-I{PROTOS}", "--include_source_info", f"--descriptor_set_out={made}"]
        protoc = [sys.executable, "-m", "grpc_tools.protoc", *options, *names]
        if subprocess.run(protoc, check=False).returncode != 0:  # noqa: S603 (our own protos)
            raise UnreadableProtosError(f"protoc can't read {PROTOS.name}/")
        files = FileDescriptorSet.FromString(made.read_bytes()).file
    return tuple(_commented(file) for file in sorted(files, key=lambda file: file.name, reverse=True))


def _commented(file: FileDescriptorProto) -> Commented:
    comments = {
        tuple(place.path): re.sub(r"^ ", "", place.leading_comments, flags=re.MULTILINE).strip("\n")
        for place in file.source_code_info.location
        if place.leading_comments
    }
    return Commented(file, comments)


def _service(proto: Commented, index: int, service: ServiceDescriptorProto) -> str:
    methods = (
        _method(method, proto.about("services", index, n), service.name)
        for n, method in enumerate(service.method)
    )
    return "\n\n".join([f"## {service.name}", _prose(proto.about("services", index)), *methods])


def _method(method: MethodDescriptorProto, comment: str, service: str) -> str:
    asked, told = _named(method.input_type), _named(method.output_type)
    asked = f"stream of {asked}" if method.client_streaming else asked
    told = f"stream of {told}" if method.server_streaming else told
    path = f"`/{PACKAGE}.{service}/{method.name}`"
    return f"### {method.name}\n{path}: takes {asked}, answers {told}.\n\n{_prose(comment)}"


def _message(proto: Commented, index: int, message: DescriptorProto) -> str:
    rows = (_field(field, proto.about("messages", index, n)) for n, field in enumerate(message.field))
    fields = _table(("field", "type", "what it is"), rows) if message.field else "No fields."
    return f"### {message.name}\n{_prose(proto.about('messages', index))}\n\n{fields}"


def _field(field: FieldDescriptorProto, comment: str) -> tuple[str, ...]:
    presence = _PRESENCE.match(comment)
    told = f"**{presence[1]}.** {comment[presence.end() :]}" if presence else comment
    kind = f"repeated {_type(field)}" if field.label == _MANY else _type(field)
    return f"`{field.name}` = {field.number}", kind, _one_line(told)


def _type(field: FieldDescriptorProto) -> str:
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return _named(field.type_name) if field.type_name else scalar


def _enum(proto: Commented, index: int, enum: EnumDescriptorProto) -> str:
    told = [(value, proto.about("enums", index, n)) for n, value in enumerate(enum.value)]
    if any(_EXAMPLE.search(comment) for _, comment in told):
        values = "\n\n".join(
            f"#### {value.name.removeprefix(_REASONS)}\n`{value.name}` = {value.number}\n\n{_prose(comment)}"
            for value, comment in told
        )
    else:
        rows = ((f"`{value.name}` = {value.number}", _one_line(comment)) for value, comment in told)
        values = _table(("value", "what it says"), rows)
    return f"### {enum.name}\n{_prose(proto.about('enums', index))}\n\n{values}"


def _prose(comment: str) -> str:
    """A comment as Markdown: its examples as code, and the reasons of errors as links."""
    return "".join(_paragraphs(comment)).strip("\n")


def _paragraphs(comment: str) -> Iterator[str]:
    end = 0
    for example in _EXAMPLE.finditer(comment):
        yield _with_links(comment[end : example.start()])
        lines = (line.strip() for line in example[0].splitlines())
        yield "\n".join(["```text", *lines, "```", ""])
        end = example.end()
    yield _with_links(comment[end:])


def _with_links(text: str) -> str:
    return _CAPITALS.sub(
        lambda found: f"[{found[0]}](#{found[0].lower()})" if found[0] in _reasons() else found[0], text
    )


@cache
def _reasons() -> frozenset[str]:
    values = (value.name for proto in read_protos() for enum in proto.file.enum_type for value in enum.value)
    return frozenset(name.removeprefix(_REASONS) for name in values if name.startswith(_REASONS))


def _named(full_name: str) -> str:
    """A type, as a link if it is one of ours. The others are google.protobuf's."""
    package, _, name = full_name.removeprefix(".").rpartition(".")
    return f"[{name}](#{name.lower()})" if package == PACKAGE else f"`{name}`"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = tuple(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(_with_links(text).split())
