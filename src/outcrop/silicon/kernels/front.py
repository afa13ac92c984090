"""Whose kernel language the kernels are written in: the import is the one line that the vendor's names would change."""

from outcrop.silicon.nki import collectives, isa as nisa, jit, language as nl  # noqa: I001

NKIObject = nl.NKIObject

__all__ = ["NKIObject", "collectives", "jit", "nisa", "nl"]
