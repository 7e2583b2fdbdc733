from collections.abc import Callable

import pytest

from export.int8.search import AS_EXPORTED, REPAIRS, LayerError, SearchResult, Step, search
from runtime.errors import ParityError

RANKING = [LayerError("worst", 5.0), LayerError("bad", 15.0), LayerError("good", 40.0)]


def measurer(
    drops: dict[tuple[str, int], float], ratios: dict[tuple[str, int], float]
) -> Callable[[str, tuple[str, ...]], Step]:
    """Candidates by form and number of excluded layers; what is not named loses 9 points at half the time."""

    def measure(form: str, excluded: tuple[str, ...]) -> Step:
        key = (form, len(excluded))
        drop = drops.get(key, 9.0)
        return Step(form, excluded, 60 - drop, drop, 10.0, 5.0, ratios.get(key, 0.5), 1000)

    return measure


def run(
    drops: dict[tuple[str, int], float], ratios: dict[tuple[str, int], float] | None = None
) -> SearchResult:
    return search(measurer(drops, ratios or {}), lambda: RANKING, 0.5)


def test_all_layers_in_int8_are_enough_when_they_hold() -> None:
    def rank() -> list[LayerError]:
        raise AssertionError("no ranking was needed")

    found = search(measurer({(AS_EXPORTED, 0): 0.5}, {}), rank, 0.5)

    assert found.steps == (found.chosen,)
    assert found.chosen.excluded == ()


def test_layers_are_left_out_worst_first_until_the_budget_holds() -> None:
    found = run({(AS_EXPORTED, 2): 0.3})

    assert [step.excluded for step in found.steps] == [(), ("worst",), ("worst", "bad")]
    assert found.chosen is found.steps[-1]
    assert found.ranking == tuple(RANKING)


def test_a_repaired_form_wins_when_leaving_layers_out_costs_more_than_a_tenth() -> None:
    found = run({(AS_EXPORTED, 1): 0.3, (REPAIRS[0], 0): 0.4}, {(AS_EXPORTED, 1): 0.56})

    assert [step.form for step in found.steps] == [AS_EXPORTED, AS_EXPORTED, *REPAIRS]
    assert found.chosen.form == REPAIRS[0]


def test_repairs_are_not_tried_when_leaving_layers_out_costs_little() -> None:
    found = run({(AS_EXPORTED, 1): 0.3, (REPAIRS[0], 0): 0.0}, {(AS_EXPORTED, 1): 0.54})

    assert found.chosen.excluded == ("worst",)
    assert len(found.steps) == 2


def test_leaving_layers_out_stops_where_nothing_is_gained_any_more() -> None:
    found = run({(REPAIRS[1], 0): 0.4}, {(AS_EXPORTED, 1): 0.95})

    assert [len(step.excluded) for step in found.steps] == [0, 1, 0, 0]
    assert found.chosen.form == REPAIRS[1]


def test_no_candidate_within_the_budget_is_an_error_that_names_the_best() -> None:
    with pytest.raises(ParityError, match=r"at most 0\.5 points lost, the best of 6 .* loses 0\.70"):
        run({(REPAIRS[1], 0): 0.7})
