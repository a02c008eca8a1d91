"""Faults 11 to 17: the network between agent and collector."""

import time

from tests.faults.proxy import Weather
from tests.faults.truth import add_up, some_runs, write_runs
from tests.faults.world import CLUSTER, World, said, until

AGENTS = 5
CUTS = 12
SLICE_BYTES = 37


def cut_again_and_again(world: World, *, reset: bool) -> None:
    """Cut connections of many agents, each after a random number of bytes, the early ones too."""
    weather = world.proxy.weather
    weather.reset = reset
    cuts = iter([world.dice.randrange(most) for most in (200, 5_000, 60_000) * (CUTS // 3)])
    weather.cut_after = lambda: next(cuts, -1)
    world.start_collector()
    expected, agents = {}, []
    for number in range(AGENTS):
        cluster, runs = f"c{number}", some_runs(2_500, seed=number)
        dump = write_runs(world.folder / f"{cluster}.txt", runs, cluster)
        agents.append(world.start_once(dump, name=cluster, spool=world.folder / f"{cluster}.db"))
        expected[cluster] = add_up(runs)
    for agent in agents:
        world.finishes(agent)
    assert world.proxy.cuts >= CUTS - AGENTS
    for cluster, sums in expected.items():
        world.assert_exact(sums, cluster=cluster)


def test_fault_11_cut_at_any_byte(world: World) -> None:
    cut_again_and_again(world, reset=False)


def test_fault_12_reset(world: World) -> None:
    cut_again_and_again(world, reset=True)


def test_fault_15_slices_of_37_bytes(world: World) -> None:
    """No message arrives whole, in either direction."""
    runs = some_runs(4_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.proxy.weather.slice_bytes = SLICE_BYTES
    world.start_collector()
    world.delivers(dump)
    world.assert_exact(add_up(runs))


def test_fault_17_old_stream_still_open(world: World) -> None:
    """What an old connection still holds arrives after a newer one has delivered everything."""
    runs = some_runs(12_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    proxy = world.proxy
    world.start_collector()
    held = proxy.weather
    held.bytes_per_s, held.slice_bytes = 200_000, 4_096
    agent = world.start_once(dump)
    until("the first stream carries batches", lambda: proxy.bytes_up > 60_000)
    held.hold_up, held.bytes_per_s = True, 0
    until("some are on their way", lambda: proxy.bytes_under_way > 20_000)
    proxy.weather = Weather()
    held.keep_upstream = True
    proxy.cut()
    world.finishes(agent)
    world.assert_exact(add_up(runs))
    assert proxy.accepted >= 2
    before = proxy.bytes_up
    held.hold_up = False
    until("the old stream's batches arrive after all", lambda: proxy.bytes_up > before + 20_000)
    time.sleep(1.0)
    world.assert_exact(add_up(runs))
    assert said(world.collector, "connected")  # type: ignore[arg-type]
    assert world.count("agents", "records_known > 0") == 1
