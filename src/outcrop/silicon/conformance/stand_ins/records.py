"""Stands for ``attr``, of which suites use the decorator that the standard library also has."""

from dataclasses import dataclass, field

__all__ = ["dataclass", "field"]
