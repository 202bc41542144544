"""Attributes that are found when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazily(Generic[T]):
    """Makes a method an attribute, found once, of any object that has a dictionary.

    The cached property of functools holds a lock for all instances in Python 3.11, while it computes: one search would
    wait for another, and a forked child for ever. Here two threads may find the same at the same time.
    """

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find, self.__doc__ = find, find.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> T:
        found = self._find(instance)
        instance.__dict__[self._name] = found
        return found
