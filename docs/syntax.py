"""What a listing's syntax is called, by the file's suffix."""

from collections.abc import Mapping
from typing import Final

SYNTAX: Final[Mapping[str, str]] = {
    ".cc": "cpp",
    ".cs": "csharp",
    ".csproj": "xml",
    ".go": "go",
    ".java": "java",
    ".json": "json",
    ".kt": "kotlin",
    ".php": "php",
    ".proto": "protobuf",
    ".py": "python",
    ".rb": "ruby",
    ".rs": "rust",
    ".sh": "sh",
    ".sql": "sql",
    ".toml": "toml",
    ".tpl": "yaml",
    ".ts": "ts",
    ".xml": "xml",
    ".yaml": "yaml",
    ".yml": "yaml",
}
