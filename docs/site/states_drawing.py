"""Draws the states of an install as SVG, from the table in the domain.

Code hosts draw the Mermaid in docs/concepts.md; in a browser Mermaid is a script of several megabytes from a CDN, and
the site loads nothing from elsewhere. The states stand one under the other. What leads to a state by the same events
shares one lane on the right, so no label can meet another, whatever the table becomes.
"""

from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple

from broker.domain.states import TRANSITIONS, InstallEvent, InstallState

# All in the drawing's own units, which are pixels at its natural size.
_BOX_WIDTH: Final = 300
_BOX_HEIGHT: Final = 70
_BOX_GAP: Final = 64
_LEFT: Final = 8
_TOP: Final = 56
_LANE_GAP: Final = 36
_FIRST_LANE: Final = 205  # leaves room for the labels, which stand between the boxes and the lanes
_MARGIN: Final = 8
_LINE_HEIGHT: Final = 15
_DOT: Final = 6
_JOINT: Final = 3

_STYLE: Final = """
.states { font-family: inherit; color: var(--md-default-fg-color, currentColor); }
.states text { fill: currentColor; font-size: 13px; }
.states .state { font-weight: 700; font-size: 14px; text-anchor: middle; }
.states .stays { font-size: 12px; text-anchor: middle; }
.states rect, .states path { fill: none; stroke: currentColor; stroke-width: 1.5; }
.states circle, .states .head { fill: currentColor; stroke: none; }
"""


class Lane(NamedTuple):
    """One way into a state: by the same events, from all of these states."""

    events: tuple[InstallEvent, ...]
    sources: tuple[InstallState, ...]
    target: InstallState


def lanes() -> list[Lane]:
    """The ways into states from others, in the table's order."""
    found: dict[tuple[tuple[InstallEvent, ...], InstallState], list[InstallState]] = {}
    for source in InstallState:
        for target in InstallState:
            events = _events(source, target)
            if events and source is not target:
                found.setdefault((events, target), []).append(source)
    return [Lane(events, tuple(sources), target) for (events, target), sources in found.items()]


def states_svg() -> str:
    """The drawing, as one element to stand inside a page."""
    ways = lanes()
    width = _lane_x(len(ways) - 1) + _MARGIN
    height = _box_top(len(InstallState) - 1) + _BOX_HEIGHT + _MARGIN
    parts = [_beginning(), *map(_box, InstallState)]
    for number, lane in enumerate(ways):
        parts += _way(number, lane)
    told = "; ".join(f"{a.name} to {b.name}: {' / '.join(e)}" for a in InstallState for b, e in _from(a))
    return (
        f'<figure class="states" markdown="0"><svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="The states of an install. {escape(told)}."><style>{_STYLE}</style>'
        f"{''.join(parts)}</svg></figure>"
    )


def _events(source: InstallState, target: InstallState) -> tuple[InstallEvent, ...]:
    return tuple(
        event for (before, event), after in TRANSITIONS.items() if before is source and after is target
    )


def _from(source: InstallState) -> Iterator[tuple[InstallState, tuple[InstallEvent, ...]]]:
    for target in InstallState:
        if events := _events(source, target):
            yield target, events


def _row(state: InstallState) -> int:
    return list(InstallState).index(state)


def _box_top(row: int) -> int:
    return _TOP + row * (_BOX_HEIGHT + _BOX_GAP)


def _lane_x(number: int) -> int:
    return _LEFT + _BOX_WIDTH + _FIRST_LANE + number * _LANE_GAP


def _beginning() -> str:
    """Where an install comes from: its first webhook."""
    x, end = _LEFT + _BOX_WIDTH // 2, _box_top(0)
    return (
        f'<circle cx="{x}" cy="{_DOT + 2}" r="{_DOT}"/><path d="M {x} {_DOT + 2} V {end}"/>'
        f'{_head(x, end, down=True)}<text x="{x + 12}" y="{end // 2 + 4}">first route webhook</text>'
    )


def _box(state: InstallState) -> str:
    """A state, with the events that leave it as it is."""
    top, middle = _box_top(_row(state)), _LEFT + _BOX_WIDTH // 2
    stays = _wrapped(_events(state, state), a_line=2, prefix="stays: ")
    first = top + (_BOX_HEIGHT - len(stays) * _LINE_HEIGHT) // 2 + 5
    lines = "".join(
        f'<text class="stays" x="{middle}" y="{first + (n + 1) * _LINE_HEIGHT}">{line}</text>'
        for n, line in enumerate(stays)
    )
    return (
        f'<rect x="{_LEFT}" y="{top}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="8"/>'
        f'<text class="state" x="{middle}" y="{first}">{state.name}</text>{lines}'
    )


def _way(number: int, lane: Lane) -> Iterator[str]:
    """From each source to the lane, and by the lane to the target."""
    x, edge, end = _lane_x(number), _LEFT + _BOX_WIDTH, _port(lane.target, number)
    starts = [_port(source, number) for source in lane.sources]
    yield f'<path d="M {x} {min(*starts, end)} V {max(*starts, end)}"/>'
    for y in starts:
        yield f'<path d="M {edge} {y} H {x}"/><circle cx="{x}" cy="{y}" r="{_JOINT}"/>'
    yield f'<path d="M {x} {end} H {edge}"/>{_head(edge, end, down=False)}'
    label = _wrapped(lane.events, a_line=1)
    for n, line in enumerate(label):
        yield f'<text x="{edge + 14}" y="{end - 6 - (len(label) - 1 - n) * _LINE_HEIGHT}">{line}</text>'


def _port(state: InstallState, number: int) -> int:
    """Where a lane's line meets a state: each lane at a height of its own, those that arrive at the top."""
    arrives = [n for n, lane in enumerate(lanes()) if lane.target is state]
    leaves = [n for n, lane in enumerate(lanes()) if state in lane.sources]
    order = [*arrives, *leaves]
    return _box_top(_row(state)) + (order.index(number) + 1) * _BOX_HEIGHT // (len(order) + 1)


def _head(x: int, y: int, *, down: bool) -> str:
    points = (
        f"{x},{y} {x - 5},{y - 9} {x + 5},{y - 9}" if down else f"{x},{y} {x + 9},{y - 5} {x + 9},{y + 5}"
    )
    return f'<polygon class="head" points="{points}"/>'


def _wrapped(events: tuple[InstallEvent, ...], *, a_line: int, prefix: str = "") -> list[str]:
    """The events, so many on a line at most."""
    rows = [events[i : i + a_line] for i in range(0, len(events), a_line)]
    lines = [" / ".join(escape(event.value) for event in row) for row in rows]
    return [f"{prefix * (n == 0)}{line}{' /' * (n < len(lines) - 1)}" for n, line in enumerate(lines)]
