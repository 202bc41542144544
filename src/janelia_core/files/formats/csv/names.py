"""What the first line of a `.csv` is, names or numbers, and which columns only number the rows."""

from __future__ import annotations

import re
from typing import NamedTuple

from janelia_core.files.formats.csv.fields import DECIMAL_COMMAS, Field, wrong_number

REMEDY = "say --header or --no-header (in Python header=True or False)"

_INDEX = re.compile(r"|index|level_\d+|Unnamed: \d+(?:\.\d+)*", re.IGNORECASE)
_PERHAPS_INDEX = re.compile(r"_?id|idx|key|row[ _]?(?:nr|id|no|number|names?)?|.*_(?:id|idx)", re.IGNORECASE)
_MISSING = {"na", "n/a", "null", "none", "nil", "missing", "undefined"}


class Head(NamedTuple):
    """What the first line says.

    Attributes:
        is_names: It holds names, no numbers.
        numbering: How many columns in front are, by their names, the number of the row.
        nameless: It has one name less than there are columns: R leaves out that of the row names.
        perhaps: The first column that is left is, by its name, the number of a row, or of what the row is about.
    """

    is_names: bool
    numbering: int = 0
    nameless: bool = False
    perhaps: str = ""


def head_of(first: list[Field], second: list[Field] | None, header: bool | None) -> Head:
    """Return what the first line is; `second` are the fields of the line after it.

    Raises:
        ValueError: It can be taken for both, or for neither.
    """
    if header is False:
        return Head(False)
    nameless = second is not None and len(first) == len(second) - 1
    if header is None:
        header = _is_names(first, second)
        if header and second is not None and len(first) != len(second):
            hint = ": a column of row names without a name of its own? write the table without it" if nameless else ""
            raise ValueError(f"it has {len(first)} names for {len(second)} columns{hint}")
    if not header:
        return Head(False)
    numbering = _index_columns(first)
    name = first[numbering].text.lstrip("# ") if numbering < len(first) - 1 else ""
    return Head(True, numbering, nameless, name if _PERHAPS_INDEX.fullmatch(name) else "")


def _index_columns(fields: list[Field]) -> int:
    others = [at for at, field in enumerate(fields) if not _INDEX.fullmatch(field.text.lstrip("# "))]
    return min(others, default=len(fields))


def _is_names(first: list[Field], second: list[Field] | None) -> bool:
    """Tell names from numbers where nobody says it."""
    skip = min(_index_columns(first), len(first) - 1)
    rest = first[skip:]
    numbers = [field.is_number for field in rest]
    if _number_the_columns(rest, None if second is None or skip else second):
        if skip:
            return True
        raise ValueError(f"it numbers the columns, as pandas writes where they have no names; {REMEDY}")
    if all(numbers) and not skip:
        if all(field.is_word for field in rest):
            raise ValueError(f"field 1 is {rest[0]}, a number and a name; {REMEDY}")
        if second is not None and _quotes(first) != _quotes(second) and len(first) == len(second):
            raise ValueError(f"its numbers are quoted in other fields than those of the line after it; {REMEDY}")
        return False
    if any(numbers):
        at = skip + numbers.index(False) if not all(numbers) else 0
        raise ValueError(
            f"field {at + 1} {wrong_number(first[at]) or 'has no name'}, while other fields are numbers; {REMEDY}"
        )
    for at, field in enumerate(rest, skip + 1):
        if not _plausible(field.text):
            what = "empty" if not field.text else f"{field}, neither a number nor likely a name"
            what += DECIMAL_COMMAS if "," in field.text else ""
            raise ValueError(f"field {at} is {what}; {REMEDY}")
    return True


def _number_the_columns(fields: list[Field], second: list[Field] | None) -> bool:
    """Whether fields count from 0, or from 1 or as 0.0, 1.0, where the next line says that they are no data.

    Of a single column 0 is data more often, unless what follows are fractions.
    """
    texts = [field.text for field in fields]
    following = second or []
    if texts == [str(at) for at in range(len(texts))]:
        return len(texts) > 1 or any(not field.is_digits for field in following)
    if len(texts) < 3 or not all(field.is_number for field in following):
        return False
    if texts == [str(at + 1) for at in range(len(texts))]:
        return bool(following) and not any(field.is_digits for field in following)
    decimals = [f"{at}.0" for at in range(len(texts) + 1)]
    return texts in (decimals[:-1], decimals[1:]) and any(len(field.text.partition(".")[2]) > 1 for field in following)


def _quotes(fields: list[Field]) -> list[bool]:
    return [field.quoted for field in fields]


def _plausible(name: str) -> bool:
    """Whether it is a name, not a number gone wrong (1D3, 1_000, -, .5x) or a value that misses (NA, null)."""
    begins_as_number = name[:1] in set("+-.,") or name[:1].isdigit()
    return not begins_as_number and any(map(str.isalpha, name)) and name.lower() not in _MISSING
