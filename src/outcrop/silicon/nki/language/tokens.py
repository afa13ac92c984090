"""Operators that only instructions know: they name an operation and compute nothing by themselves."""

from __future__ import annotations


class Token:
    """An operator by its name alone."""

    def __init__(self, name: str, meaning: str) -> None:
        self.__name__ = name
        self.__doc__ = meaning

    def __repr__(self) -> str:
        return f"nl.{self.__name__}"


average = Token("average", "The mean, as tensor_partition_reduce takes it.")
prelu = Token("prelu", "A rectifier with a slope for negative values, as activate2 takes it.")
bypass = Token("bypass", "No operation, as activate2 takes it.")
