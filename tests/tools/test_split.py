"""The split of people must never change: figures of different days would not compare."""

from __future__ import annotations

import pytest

from tests.conftest import material as need_material
from tools.data import material
from tools.data.split import gives_offsets


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        # first byte of `printf IDENTITY | sha256sum`: odd gives offsets
        ("london/003", False),
        ("london/006", True),
        ("canada/003", False),
        ("", True),
    ],
)
def test_half_of_a_delineated_person_is_fixed(identity, expected):
    assert gives_offsets(identity) is expected


def test_halves_of_the_delineated_people_are_of_similar_size():
    need_material("faces", "delineated_189.npz")
    people = set(material.delineated().identity)
    offsets = sum(map(gives_offsets, people))
    assert (offsets, len(people) - offsets) == (43, 49)
