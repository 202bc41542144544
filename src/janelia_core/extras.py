"""Import of packages that only an extra installs."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class MissingExtraError(ImportError):
    """A package is missing that one of the extras of janelia-core installs."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module that belongs to an extra, or say how to install it.

    Args:
        module: dotted name of the module.
        extra: the extra of janelia-core that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the module's package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # Another missing module means a broken installation of the package, which is another story.
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"this needs the package {package}, which is not installed; "
            f"install it with: pip install 'janelia-core[{extra}]'"
        ) from error
