"""Items that several threads work off together."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Job(Generic[Item, Result]):
    """Items, handed out in their order to every thread that runs the job, and what came of them.

    Work begins without graphs and autocast, and in the inference mode of whoever made the job: settings of a thread.

    Args:
        work: What is done with an item.
        items: The items.
        device_type: Where the tensors are.
    """

    def __init__(self, work: Callable[[Item], Result], items: Iterable[Item], device_type: str = "cpu") -> None:
        self._work, self._device_type = work, device_type
        self._todo = deque(enumerate(items))  # whose popleft is atomic
        self._results: list[Result | None] = [None] * len(self._todo)
        self._failures: list[tuple[int, BaseException]] = []
        self._inference = torch.is_inference_mode_enabled()

    def __len__(self) -> int:
        return len(self._results)

    def run(self) -> None:
        """Work on items until none is left; whatever goes wrong is kept, and ends the job for all threads."""
        place = len(self)
        try:
            with quietly(self._inference, self._device_type):
                while (taken := self._next()) is not None:
                    place, item = taken
                    self._results[place] = self._work(item)
        except BaseException as error:
            self._failures.append((place, error))
            self.stop()

    def stop(self) -> None:
        """Hand out no more items."""
        self._todo.clear()

    def outcome(self) -> list[Result]:
        """Return the results in the order of the items, or raise the exception of the first that failed.

        That is the first of all: items are taken in order, and those taken are brought to an end.
        """
        failures, self._failures = self._failures, []
        if not failures:
            return cast("list[Result]", self._results)
        try:
            raise min(failures, key=lambda failure: failure[0])[1]
        finally:
            failures.clear()  # or the exception would refer to itself, by way of this frame

    def _next(self) -> tuple[int, Item] | None:
        try:
            return self._todo.popleft()
        except IndexError:
            return None


def quietly(inference: bool, device_type: str = "cpu") -> contextlib.AbstractContextManager[object]:
    """Return a context, to be entered at once, without graphs and autocast, and in inference mode or not.

    Autocast is that of the CPU, where everything may end, and of the tensors' own type of device.
    """
    own = device_type != "cpu" and torch.amp.is_autocast_available(device_type)
    cast = [kind for kind in (("cpu", device_type) if own else ("cpu",)) if torch.is_autocast_enabled(kind)]
    if not cast and torch.is_inference_mode_enabled() == inference:
        return torch.no_grad()
    stack = contextlib.ExitStack()
    stack.enter_context(torch.inference_mode(inference))
    stack.enter_context(torch.no_grad())
    for kind in cast:
        stack.enter_context(torch.autocast(kind, enabled=False))
    return stack
