from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import pytest

from optuna_propulate.evolution.individual import Individual
from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News
from optuna_propulate.exchange.local import Network
from optuna_propulate.islands import Archipelago
from optuna_propulate.islands import Island
from optuna_propulate.islands import Migration
from optuna_propulate.islands import Pollination
from optuna_propulate.islands import resolve_topology
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import SelectUniform


if TYPE_CHECKING:
    from optuna_propulate.breeders import BreedingContext
    from optuna_propulate.breeders import Evaluation


RNG = np.random.default_rng(0)


class Listener:
    """A breeder that notes which evaluations it hears of, and their ranks."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        return Individual(genes={})

    def observe(self, evaluation: Evaluation) -> None:
        self.heard.append((evaluation.individual.number, evaluation.rank))


def settlers(
    sizes: tuple[int, ...], policy: Migration | Pollination, population_size: int = 4
) -> tuple[Network, list[Island]]:
    """Return the views of all workers; each island sends every other one individual."""
    archipelago = Archipelago(sizes)
    network = Network(archipelago.islands)
    views = [
        Island(
            index=archipelago.island_of(worker),
            worker=worker,
            population_size=population_size,
            breeder=Listener(),
            topology=resolve_topology("fully_connected", archipelago.n_islands),
            migration=policy,
            exchange=network.exchange(worker),
        )
        for worker in range(sum(sizes))
    ]
    return network, views


def one(number: int, loss: float, view: Island) -> Individual:
    return Individual({}, loss=loss, number=number, island=view.index, worker=view.worker)


def numbers(view: Island) -> list[int]:
    return [individual.number for individual in view.breeding_pool]


def take_in(*views: Island) -> None:
    for view in (*views, *views):
        view.take_in(RNG)


def test_who_migrates_is_active_there_and_nowhere_else() -> None:
    _, (home, peer, abroad) = settlers((2, 1), Migration(1.0))
    number = 0
    while not (departures := peer.born(one(number, 1.0 + number, peer), RNG)):
        number += 1  # each of two workers sends after every second evaluation
    assert [(d.island, d.worker) for d in departures] == [(1, 2)]
    take_in(home, peer, abroad)
    assert numbers(home) == numbers(peer) == list(range(1, number + 1))[:4]
    assert numbers(abroad) == [0]
    assert (abroad.tally.arrived, peer.tally.departed) == (1, 1)


def test_who_pollinates_stays_and_replaces_the_worst_that_the_receiver_owns() -> None:
    network, (home, abroad) = settlers((1, 1), Pollination(1.0))
    for number, loss in ((10, 5.0), (11, 9.0), (12, 7.0)):
        abroad.born(one(number, loss, abroad), RNG)
    network.arrived(0)
    home.born(one(0, 1.0, home), RNG)
    take_in(abroad)
    assert numbers(home) == [0]
    assert numbers(abroad) == [0, 10, 12]
    assert (abroad.tally.arrived, abroad.tally.replaced, abroad.tally.owed) == (1, 1, 0)


def test_who_owns_nothing_but_the_immigrant_pays_with_its_next_individual() -> None:
    _, (home, abroad) = settlers((1, 1), Pollination(1.0))
    home.born(one(0, 1.0, home), RNG)
    take_in(abroad)
    assert numbers(abroad) == [0]
    assert (abroad.tally.arrived, abroad.tally.owed) == (1, 1)
    abroad.born(one(1, 0.5, abroad), RNG)
    assert numbers(abroad) == [0]
    assert (abroad.tally.replaced, abroad.tally.owed) == (1, 0)


def test_a_copy_that_is_there_already_is_turned_away() -> None:
    _, (home, abroad) = settlers((1, 1), Pollination(1.0))
    for number, loss in ((0, 1.0), (1, 2.0)):
        home.born(one(number, loss, home), RNG)  # number 0 travels twice
    take_in(abroad)
    assert (abroad.tally.arrived, abroad.tally.turned_away) == (1, 1)


def test_nobody_is_sent_to_where_it_comes_from() -> None:
    _, (home, abroad) = settlers((1, 1), Pollination(1.0))
    home.born(one(0, 1.0, home), RNG)
    take_in(abroad)
    departures = abroad.born(one(1, 2.0, abroad), RNG)
    assert [i.number for there in departures for i in there.individuals] == []
    departures = abroad.born(one(2, 3.0, abroad), RNG)
    assert [i.number for there in departures for i in there.individuals] == [2]


def test_islands_send_as_many_as_the_topology_says_and_no_one_twice() -> None:
    archipelago = Archipelago((1, 1, 1))
    network = Network(archipelago.islands)
    view = Island(
        index=0,
        worker=0,
        population_size=4,
        breeder=Listener(),
        topology=np.array([[0, 2, 3], [0, 0, 0], [0, 0, 0]]),
        migration=Migration(0.0),
        exchange=network.exchange(0),
    )
    for number in range(4):
        view.born(one(number, float(number), view), RNG)
    view._migration = Migration(1.0)
    departures = view.born(one(4, 4.0, view), RNG)
    assert [(d.island, [i.number for i in d.individuals]) for d in departures] == [
        (1, [0, 1]),
        (2, [2, 3, 4]),
    ]
    assert numbers(view) == []


@pytest.mark.parametrize("n_workers", [1, 4])
@pytest.mark.parametrize("policy", [Migration, Pollination])
def test_each_worker_uses_its_share_of_the_probability(n_workers: int, policy: Any) -> None:
    _, views = settlers((n_workers, 1), policy(0.5, SelectUniform))
    n_generations, rng = 2000, np.random.default_rng(1)
    n_departures = 0
    for number in range(n_generations * n_workers):
        view = views[number % n_workers]
        n_departures += len(view.born(one(number, -float(number), view), rng))
    assert abs(n_departures / n_generations - 0.5) < 0.05  # six standard deviations


def test_what_cannot_enter_the_pool_is_told_when_the_pool_shrinks() -> None:
    network, (home, peer, abroad) = settlers((2, 1), Migration(0.0), population_size=2)
    for number in range(4):
        home.born(one(number, float(number), home), RNG)
    messages = network.arrived(1)
    assert [[i.number for i in news.added] for news in messages] == [[0], [1], [], []]  # reserves
    assert [[i.number for i in news.born] for news in messages] == [[0], [1], [2], [3]]
    for news in messages:
        network.send(news, 0, 1)
    take_in(peer)
    assert numbers(peer) == [0, 1]
    home._migration = Migration(1.0, SelectBest)
    home._exchange.peers = [1]  # type: ignore[attr-defined]
    while not home.born(one(9, 9.0, home), RNG):
        pass
    take_in(peer, abroad)
    assert numbers(abroad) == [0]
    assert numbers(peer) == numbers(home) == [1, 2]


def test_the_order_of_messages_does_not_matter() -> None:
    network, (home, peer) = settlers((2,), Migration(0.0))
    gone, stays = one(0, 1.0, home), one(1, 2.0, home)
    for news in (News(removed=(gone.id,)), News(added=(stays,)), News(added=(gone,))):
        network.send(news, 0, 1)
        peer.take_in(RNG)
    assert numbers(peer) == [1]


def test_individuals_that_nobody_owns_take_no_more_memory_than_the_pool() -> None:
    _, (view,) = settlers((1,), Migration(0.0), population_size=3)
    for number in range(100):
        view.join(one(number, float(100 - number), view))
    assert view.n_known == 3
    assert numbers(view) == [99, 98, 97]


def test_a_migrant_its_mates_have_heard_of_is_not_told_again() -> None:
    network, (home, _) = settlers((2,), Migration(0.0))
    network.send(Migrants((one(5, 1.0, home),), told=True), 1, 0)
    home.take_in(RNG)
    assert numbers(home) == [5]
    assert network.n_sent == 1


@pytest.mark.parametrize("policy", [Migration, Pollination])
@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_probabilities_are_probabilities(policy: Any, probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        policy(probability)


@pytest.mark.parametrize("policy", [Migration, Pollination])
def test_selections_are_called_with_a_number(policy: Any) -> None:
    with pytest.raises(TypeError, match="emigrants"):
        policy(emigrants="best")
    with pytest.raises(TypeError, match="replaced"):
        Pollination(replaced=3)  # type: ignore[arg-type]


def listeners(views: list[Island]) -> list[Any]:
    return [view._breeder for view in views]


def test_peers_hear_of_bad_births_and_how_many_were_better() -> None:
    _, views = settlers((2, 1), Pollination(0.0), population_size=2)
    here, there, abroad = listeners(views)
    for number, loss in enumerate([1.0, 2.0, 3.0, 0.0]):
        views[0].born(one(number, loss, views[0]), RNG)
        views[1].take_in(RNG)
    assert here.heard == there.heard == [(0, 0), (1, 1), (2, 2), (3, 0)]
    views[2].take_in(RNG)
    assert abroad.heard == []


def test_births_are_told_in_ever_larger_groups() -> None:
    network, views = settlers((2,), Pollination(0.0), population_size=2)
    listener = listeners(views)[1]
    n_births = 5000
    for number in range(n_births):  # ever worse, so only two are events
        views[0].born(one(number, float(number), views[0]), RNG)
        views[1].take_in(RNG)
        if number == 63:
            assert len(listener.heard) == 64
    assert network.n_sent < 64 * (1 + np.log(n_births / 64)) + 2
    assert listener.heard[-1][0] > n_births * (1 - 1 / 32)
    assert len(listener.heard) > 500


def test_immigrants_are_learnt_from_on_the_whole_island() -> None:
    network, views = settlers((2, 1), Pollination(0.0))
    listening = listeners(views)
    network.send(Migrants((one(5, 1.0, views[2]),)), 2, 0)
    take_in(views[0])
    take_in(views[1])
    assert [listener.heard for listener in listening] == [[(5, 0)], [(5, 0)], []]


def test_a_policy_that_makes_room_by_nobody_is_an_error_and_no_endless_loop() -> None:
    policy = Pollination(1.0, replaced=lambda n: lambda individuals, rng: [])
    network, views = settlers((1, 1), policy, population_size=2)
    views[0].born(one(0, 1.0, views[0]), RNG)
    network.send(Migrants((one(5, 0.5, views[1]),)), 1, 0)
    with pytest.raises(ValueError, match=r"replaced\(1\).*nobody of 1"):
        views[0].take_in(RNG)
