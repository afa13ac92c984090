"""Whose kernel language the kernels are written in: this one line is all that the vendor's names would change."""

from outcrop.silicon.nki import NKIObject, collectives, isa as nisa, jit, language as nl  # noqa: I001

__all__ = ["NKIObject", "collectives", "jit", "nisa", "nl"]
