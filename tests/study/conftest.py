"""Stores with an MLflow database in them, as the tests of tracking have them."""

from tests.tracking.conftest import store

__all__ = ["store"]
