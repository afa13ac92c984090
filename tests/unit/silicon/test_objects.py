"""Classes of kernels: initialisers from fields, with and without the dataclass decorator."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from outcrop.silicon.device import dtypes
from outcrop.silicon.nki.objects import NKIObject


class Plain(NKIObject):
    a: int
    b: int = 2
    c = None

    def method(self) -> int:
        return self.b


@dataclass
class Decorated(NKIObject):
    a: int
    b: int = 2
    c = None
    d: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.after = True


@dataclass(frozen=True)
class Frozen(NKIObject):
    a: int = 1


@pytest.mark.parametrize("kind", [Plain, Decorated])
def test_fields_are_annotated_names_and_class_attributes(kind: type[Any]) -> None:
    made = kind(1, c="see")
    assert (made.a, made.b, made.c) == (1, 2, "see")
    assert kind().a is None
    with pytest.raises(TypeError, match="'e'"):
        kind(e=1)
    with pytest.raises(TypeError, match="'a'"):
        kind(1, a=1)


def test_what_dataclasses_add_still_works() -> None:
    one, two = Decorated(a=1), Decorated(a=1)
    assert one.d == []
    assert one.d is not two.d
    assert one.after
    assert one == two
    assert Frozen(a=3).a == 3
    with pytest.raises(AttributeError):
        Frozen().a = 2  # type: ignore[misc]


def test_an_initialiser_of_its_own_stays() -> None:
    class Own(NKIObject):
        x: int = 1

        def __init__(self, x: int) -> None:
            self.x = x * 2

    class Below(Own):
        y: int = 1

    assert Own(2).x == 4
    assert Below(3).x == 6
    assert Below(3).y == 1


def test_data_types_survive_copies() -> None:
    for each in dtypes.ALL:
        assert copy.deepcopy(each) is each
        assert pickle.loads(pickle.dumps(each)) is each
