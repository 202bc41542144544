"""Teams that stand between calls: starting threads takes as long as many a search.

A call borrows a team, or starts one, and gives it back when nobody works any more. So two calls at once have two teams,
and what a call leaves behind is threads that wait, no more of them than there are processors: daemons, which do not
hold up the end of the interpreter. A forked child has none of them. A team whose processors are not those of the
calling thread (a setting of a thread, which those that it starts inherit) is of no use to it.
"""

from __future__ import annotations

import os

from janelia_core.ml._runtime.team import Team

_waiting: list[tuple[frozenset[int], Team]] = []  # whose append and pop are atomic
_MOST = os.cpu_count() or 1


def borrowed() -> Team:
    """Return a team that waits, or a new one without threads."""
    here = _processors()
    while _waiting:
        try:
            there, team = _waiting.pop()
        except IndexError:  # another thread was quicker
            break
        if there == here:
            return team
        team.end()
    return Team(single=True)


def give_back(team: Team) -> None:
    """Let a team wait for the next call; it ends where Ctrl-C left it at work, or enough threads wait."""
    if team.may_stand() and len(team) <= _MOST - sum(len(other) for _, other in _waiting):
        _waiting.append((_processors(), team))
    else:
        team.end()  # what has begun is waited for, the rest never starts


def dismiss() -> None:
    """End all threads that wait."""
    while _waiting:
        _waiting.pop()[1].end()


def n_processors() -> int:
    """Return how many processors this process may use."""
    return len(_processors()) or _MOST


def _processors() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_waiting.clear)
