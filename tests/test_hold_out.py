"""Splits: nothing is lost or shared, every stratum gives its share, and the split is always the same."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sk_deploy.errors import ConfigError
from sk_search.hold_out import hold_out, split

strata = st.lists(st.sampled_from(["GP", "IP", "S6", "N6", "G4"]), min_size=4, max_size=200)


@given(strata, st.booleans())
def test_parts_cover_everything_once(phones: list[str], two_level: bool) -> None:
    train, structure, validation = split(phones, two_level)
    assert sorted(train + structure + validation) == list(range(len(phones)))
    assert train
    assert validation
    assert bool(structure) == two_level
    assert split(phones, two_level) == (train, structure, validation)


@given(strata, st.sampled_from([0.1, 0.25, 0.5]))
def test_every_stratum_gives_its_share(phones: list[str], share: float) -> None:
    held = hold_out(phones, share)
    assert len(held) == max(1, round(share * len(phones)))
    taken = Counter(phones[i] for i in held)
    for phone, size in Counter(phones).items():
        assert abs(taken[phone] - len(held) * size / len(phones)) < 1


def test_the_validation_scenes_do_not_depend_on_the_search() -> None:
    phones = ["GP"] * 30 + ["S6"] * 50
    assert split(phones, False)[2] == split(phones, True)[2]
    counts = Counter(phones[i] for i in split(phones, False)[2])
    assert counts == {"GP": 3, "S6": 5}
    halves = [Counter(phones[i] for i in part) for part in split(phones, True)[:2]]
    assert sum(halves, Counter()) == {"GP": 27, "S6": 45}
    assert abs(halves[0]["GP"] - halves[1]["GP"]) <= 1


@pytest.mark.parametrize(("count", "two_level"), [(1, False), (2, True), (0, False)])
def test_too_few_scenes_are_refused(count: int, two_level: bool) -> None:
    with pytest.raises(ConfigError, match=r"cannot hold \d of \d scenes out: add scenes"):
        split([""] * count, two_level)
