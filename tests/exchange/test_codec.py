from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from support.strategies import individuals

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News
from optuna_propulate.exchange.codec import decode
from optuna_propulate.exchange.codec import encode


if TYPE_CHECKING:
    import pytest

groups = st.lists(individuals(), max_size=3).map(tuple)


def shown(individual: Individual) -> str:
    return repr((sorted(individual.genes.items()), by_loss(individual), individual.lineage))


@given(groups, groups, groups)
def test_messages_arrive_as_they_were_sent(
    added: tuple[Individual, ...], gone: tuple[Individual, ...], born: tuple[Individual, ...]
) -> None:
    news = News(added + born, tuple(individual.id for individual in gone), born)
    arrived = decode(encode(news))
    assert isinstance(arrived, News)
    assert [*map(shown, arrived.added)] == [*map(shown, news.added)]
    assert [*map(shown, arrived.born)] == [*map(shown, news.born)]
    assert arrived.removed == news.removed
    migrants = decode(encode(Migrants(added)))
    assert isinstance(migrants, Migrants)
    assert [*map(shown, migrants.individuals)] == [*map(shown, added)]


def test_what_operators_learn_from_travels_and_the_rest_stays() -> None:
    lineage = Lineage(("DifferentialMutation",), (3, 4), (0, 1), {"F": 0.5}, 2)
    arrived = decode(encode(News(born=(Individual({}, lineage=lineage),))))
    assert isinstance(arrived, News)
    expected = Lineage(("DifferentialMutation",), (3,), (), {"F": 0.5}, 2)
    assert arrived.born[0].lineage == expected


def test_an_individual_told_twice_in_a_message_is_sent_once() -> None:
    genes = {f"parameter {i}": None for i in range(50)}
    individual = Individual({}, lineage=Lineage(operators=tuple(genes)))
    once, twice = News((individual,)), News((individual,), (), (individual,))
    assert len(encode(twice)) < len(encode(once)) + 50


def test_choices_that_cannot_be_pickled_stay_at_home(caplog: pytest.LogCaptureFixture) -> None:
    choices = (abs, lambda x: x)
    genes = {
        "x": Gene(0.5, FloatDistribution(0, 1)),
        "activation": Gene(abs, CategoricalDistribution(choices)),
        "pair": Gene((1, 2), CategoricalDistribution(((1, 2), (3, 4)))),
    }
    individual = Individual(genes, 1.0, 7)
    for _ in range(2):
        arrived = decode(encode(News((individual,), (), (individual,))))
        assert isinstance(arrived, News)
        assert arrived.added == arrived.born
        assert set(arrived.born[0].genes) == {"x", "pair"}
        assert by_loss(arrived.born[0]) == by_loss(individual)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'activation'" in caplog.text
