"""Stores with an MLflow database in them, as the tests of tracking have them."""

from tests.tracking.conftest import empty_database, store

__all__ = ["empty_database", "store"]
