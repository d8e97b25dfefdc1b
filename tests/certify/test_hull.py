"""The hull of vectors, against points that are in it by construction, and points that a plane parts from it."""

from fractions import Fraction
from random import Random

import pytest

from diffcheck.certify.hull import nearest


@pytest.mark.parametrize("seed", range(20))
def test_what_is_made_of_the_vertices_is_within_and_what_a_plane_parts_is_not(seed: int):
    random = Random(seed)
    size, count = random.randrange(1, 9), random.randrange(1, 20)
    scale = [Fraction(10) ** random.randrange(-30, 30) for _ in range(size)]
    vertices = [[Fraction(random.randrange(-1000, 1001), 997) * s for s in scale] for _ in range(count)]
    weights = [Fraction(random.choice((0, 1, 1, 7))) for _ in vertices] or [Fraction(1)]
    weights[0] += 1
    total = sum(weights)
    inside = [sum((w * v[i] for w, v in zip(weights, vertices, strict=True)), Fraction(0)) / total for i in range(size)]
    slack = [float(s) * 1e-25 for s in scale]
    assert nearest(vertices, inside).within(slack)
    # beyond every vertex along the first axis, by a millionth
    outside = [max(v[0] for v in vertices) + scale[0] / 10**6, *inside[1:]]
    found = nearest(vertices, outside)
    assert not found.within([float(s) * 1e-7 for s in scale])
    assert sum(found.weights) == 1
    assert min(found.weights) >= 0


def test_sums_of_parts_are_no_hull():
    vertices = [[Fraction(1), Fraction(0)], [Fraction(0), Fraction(1)]]
    assert not nearest(vertices, [Fraction(1), Fraction(1)]).within([0.4, 0.4])
    assert nearest(vertices, [Fraction(1, 3), Fraction(2, 3)]).within([1e-30, 1e-30])
    assert not nearest(vertices, [Fraction(1, 3), Fraction(2, 3) + Fraction(1, 10**12)]).within([1e-13, 1e-13])


def test_what_one_coordinate_is_off_is_not_laid_on_another_that_is_exact():
    """On the plane x + y + z = 0: y is rounded, and x is exactly 0."""
    vertices = [[Fraction(v) for v in corner] for corner in ((2, -1, -1), (-2, 0, 2), (1, 1, -2), (-1, -2, 3))]
    off = Fraction(1, 2**28)
    slack = [2.0**-64, 2.0**-24, 2.0**-24]
    point = [Fraction(0), off, Fraction(0)]
    assert not nearest(vertices, point).within(slack)
    assert nearest(vertices, point, slack).within(slack)
    assert not nearest(vertices, [Fraction(1, 2**60), *point[1:]], [0.0, 2.0**-30, 2.0**-30]).within(
        [0.0, 2.0**-30, 2.0**-30]
    )


def test_a_vertex_is_within_though_all_differ_in_their_last_digits_only():
    one = [Fraction(1, 4), Fraction(1), Fraction(-5, 8)]
    other = [x + Fraction(k, 10**11) for x, k in zip(one, (1, -2, 3), strict=True)]
    for point in (one, other, [(a + 3 * b) / 4 for a, b in zip(one, other, strict=True)]):
        assert nearest([one, other], point, [1e-16] * 3).within([1e-16] * 3)
        assert nearest([one, other], point).within([1e-16] * 3)
    beyond = [2 * b - a for a, b in zip(one, other, strict=True)]
    assert not nearest([one, other], beyond, [1e-16] * 3).within([1e-16] * 3)
