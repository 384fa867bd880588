"""Reading a policy: what can't mean what it says is refused, with its line, and never ends the process."""

import json
import os
from pathlib import Path
from typing import Final

import pytest

from broker.adapters.policy.reading import (
    MAX_GROUPS_BYTES,
    MAX_POLICY_BYTES,
    MAX_PROBLEMS_TOLD,
    PolicyBroken,
    parse_policy,
    read_policy,
)
from broker.adapters.policy.statements import MAX_NESTING, MAX_OPERATORS

GOOD: Final = (
    'permit (principal == Caller::"billing", action in Action::"useTokens", resource in App::"4242");\n'
)
# Each stands on line 3 of a file whose other lines are right.
WRONG: Final = {
    "an unknown action": (
        'permit (principal, action == Action::"GetTokn", resource);',
        "unrecognized action",
    ),
    "an unknown attribute": (
        'permit (principal, action == Action::"GetToken", resource) when { resource.plugn_id == "4242" };',
        "attribute `plugn_id` on entity type `Install` not found",
    ),
    "an attribute that may be missing": (
        'permit (principal, action == Action::"GetToken", resource) when { resource.company_id == "7" };',
        "optional attribute `company_id`",
    ),
    "an unknown kind of entity": (
        'permit (principal == User::"billing", action, resource);',
        "unrecognized entity type `User`",
    ),
    "a webhook for a company": (
        'permit (principal, action == Action::"VouchForWebhook", resource in Company::"7");',
        "unable to find an applicable action",
    ),
    "a type that can't be": (
        "permit (principal, action, resource) when { principal.name == 3 };",
        "types Long and String",
    ),
    "an unknown variable": ("permit (princpal, action, resource);", "invalid variable"),
    "no syntax": ("permit everything;", "unexpected token `everything`"),
    "a slot": ("permit (principal == ?principal, action, resource);", "slot"),
    "a group that nobody is in": (
        'forbid (principal in Group::"biling", action, resource);',
        'Group::"biling" does not stand in the groups file',
    ),
    "an @id a second time": ('@id("first") permit (principal, action, resource);', '@id("first")'),
    "too many operators": (
        f"permit (principal, action, resource) when {{ true{' && true' * MAX_OPERATORS} }};",
        f"more than {MAX_OPERATORS} operators",
    ),
    "many operators": (
        f"permit (principal, action, resource) when {{ true{' && true' * (MAX_OPERATORS // 2)} }};",
        "nesting",
    ),
    "brackets too deep": (
        f"permit (principal, action, resource) when {{ {'(' * MAX_NESTING}true{')' * MAX_NESTING} }};",
        f"deeper than {MAX_NESTING} levels",
    ),
}


def problems_of(text: str, groups: str = "{}") -> tuple[str, ...]:
    """What is wrong with these texts."""
    with pytest.raises(PolicyBroken) as caught:
        parse_policy(text, groups)
    return caught.value.problems


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_policy_is_refused_with_its_line_and_reason(kind: str) -> None:
    """A typo must not be a silent "no", and in a `forbid` not a silent "yes"."""
    text, reason = WRONG[kind]
    problem, *_ = problems_of(f'@id("first")\n{GOOD}{text}\n{GOOD}')
    assert problem.startswith("the policy file, line 3: ")
    assert reason in problem


def test_every_problem_is_told() -> None:
    """An operator mends them in one go; a log line stays short."""
    wrong = 'permit (principal, action, resource == Nothing::"x");\n'
    with pytest.raises(PolicyBroken) as caught:
        parse_policy(wrong * 9, "[]")
    assert len({problem.partition(": ")[0] for problem in caught.value.problems}) == 10
    assert str(caught.value).count("; ") == MAX_PROBLEMS_TOLD
    assert "more" in str(caught.value)


def test_line_is_counted_past_comments_strings_and_windows_line_ends() -> None:
    """A `;` in a string or in a comment ends no policy."""
    text = f'// a ; comment "\r\n@id("a;b // no comment \\" {{")\r\n{GOOD}\r\n\r\n// ;\r\npermit (nobody);'
    (problem,) = problems_of(text)
    assert problem.startswith("the policy file, line 7: ")


def test_policy_without_an_id_goes_by_its_line() -> None:
    """Two on one line still have two names, as explain tells them apart by nothing else."""
    policy = parse_policy(f'// who gets tokens\n{GOOD}@id("named")\n{GOOD.strip()} {GOOD}{GOOD}')
    assert list(policy.rules) == ["line 2", "named", "line 4", "line 5"]
    assert list(parse_policy(GOOD.strip() * 2).rules) == ["line 1", "line 1, policy 2 of the file"]


@pytest.mark.parametrize("text", ["", "\n", "// nothing yet\n", "// permit (principal, action, resource);"])
def test_file_without_a_policy_is_refused(text: str) -> None:
    """It may be a file that is being written over. Locking everybody out is said in so many words."""
    (problem,) = problems_of(text)
    assert "has no policy" in problem


@pytest.mark.parametrize(
    "bomb",
    [
        "(" * 60_000,
        "[" * 60_000,
        "{a:" * 60_000,
        "true" + " && true" * 20_000,
        "principal" + ".a" * 60_000,
        "if true then true else " * 10_000,
        "1" + "+1" * 60_000,
        "true }" + " when { true }" * 15_000 + " when { true",
        ")" * 60_000 + "(" * 60_000,
        '"' + "(" * 60_000,
        '"\\\n' + "(" * 60_000,
    ],
    ids=lambda bomb: bomb[:12],
)
def test_policy_that_would_overflow_cedar_s_stack_is_refused(bomb: str) -> None:
    """Seen: Cedar's parser ends the process, and with it every replica that reads the file (SIGSEGV)."""
    assert problems_of(f"permit (principal, action, resource) when {{ {bomb} }};")


def test_long_list_is_no_deep_one() -> None:
    """Lists are how a policy names many companies."""
    companies = ", ".join(f'Company::"{number}"' for number in range(5000))
    parse_policy(f"permit (principal, action, resource) when {{ resource in [{companies}] }};")


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ("", "must be JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "nested"),
        ('{"a": ["x"], "a": ["y"]}', "another group has the same name"),
        ('{"a": "x"}', "must be a list of callers' names"),
        ('{"a": [1]}', "group 1, caller 1: must be text"),
        ('{"a": ["x", ""]}', "group 1, caller 2: must be text"),
        ('{"a": ["x\\n"]}', "printable"),
        ('{"a": ["\\ud800"]}', "printable"),
        ('{"": ["x"]}', "group 1: its name must be text"),
        (json.dumps({"a": ["x" * 513]}), "1 to 512"),
    ],
)
def test_wrong_groups_are_refused_with_the_reason(groups: str, reason: str) -> None:
    """A member that was left out silently would be a member that a `forbid` does not meet."""
    (problem,) = problems_of(GOOD, groups)
    assert problem.startswith("the groups file: ")
    assert reason in problem


def test_version_changes_with_each_of_the_two_files() -> None:
    """Decisions are remembered by it; a text that moves from one file to the other is another policy."""
    texts = ((GOOD, "{}"), (GOOD, '{"a": []}'), (GOOD + " ", "{}"), (GOOD, " {}"))
    assert len({parse_policy(*pair).version for pair in texts}) == len(texts)
    assert parse_policy(GOOD).version == parse_policy(GOOD).version


def test_files_are_read(tmp_path: Path) -> None:
    """The policy's and the groups'."""
    policy, groups = tmp_path / "policy.cedar", tmp_path / "groups.json"
    policy.write_text('permit (principal in Group::"é", action, resource);', encoding="utf-8")
    groups.write_text('{"é": ["billing"]}', encoding="utf-8")
    assert read_policy(policy, groups).groups.members == {"é": {"billing"}}


@pytest.mark.parametrize(
    ("content", "groups", "reason"),
    [
        (None, b"{}", "the policy file can't be read: No such file or directory"),
        (b"\xff", b"{}", "the policy file is no UTF-8 text"),
        (b" " * (MAX_POLICY_BYTES + 1), b"{}", f"the policy file has more than {MAX_POLICY_BYTES} bytes"),
        (GOOD.encode(), None, "the groups file can't be read: No such file or directory"),
        (
            GOOD.encode(),
            b" " * (MAX_GROUPS_BYTES + 1),
            f"the groups file has more than {MAX_GROUPS_BYTES} bytes",
        ),
    ],
)
def test_unreadable_file_is_named(
    tmp_path: Path, content: bytes | None, groups: bytes | None, reason: str
) -> None:
    """By what it is for, and by what is wrong."""
    for name, data in (("policy.cedar", content), ("groups.json", groups)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
    with pytest.raises(PolicyBroken) as caught:
        read_policy(tmp_path / "policy.cedar", tmp_path / "groups.json")
    assert caught.value.problems == (reason,)


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """A broker that waits for a writer would neither start nor say why."""
    os.mkfifo(tmp_path / "policy.cedar")
    with pytest.raises(PolicyBroken, match="no regular file"):
        read_policy(tmp_path / "policy.cedar")


def test_f47_problem_stays_one_line() -> None:
    """Names from the file stand in it."""
    text = 'permit (principal in Group::"\\u{1b}[31m\\n", action, resource == Company::"\\u{202e}\\r\\n");'
    assert all(problem.isprintable() for problem in problems_of(text))
