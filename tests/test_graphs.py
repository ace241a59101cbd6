"""Graphs: matchings, the papers' edge lists and the facts stated about them, sets, rotations."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd.graphs import (
    Rotation,
    Topology,
    complete,
    dynamic_set,
    erdos_renyi,
    exponential,
    geometric,
    line,
    matcha_graph,
    matchings_of,
    paper_graph,
    paper_set,
    parse,
    parse_set,
    ring,
    star,
    torus,
)
from aldsgd.paper_graphs import MATCHA

LEVELS = ("100", "84.6", "69.2", "53.8", "38.5")


@st.composite
def simple_graphs(draw, most=12):
    """(n, edges): any simple graph, edges in any order and direction."""
    n = draw(st.integers(1, most))
    pairs = [(i, j) for i in range(n) for j in range(i)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    flips = draw(st.lists(st.booleans(), min_size=len(edges), max_size=len(edges)))
    return n, [edge[::-1] if flip else edge for edge, flip in zip(edges, flips, strict=True)]


def normal(edges):
    return sorted(tuple(sorted(edge)) for edge in edges)


def assert_matchings(matchings, edges):
    """Each matching touches a worker once at most, and together they hold every edge exactly once."""
    for matching in matchings:
        touched = [worker for edge in matching for worker in edge]
        assert len(touched) == len(set(touched)) > 0
    assert normal(edge for matching in matchings for edge in matching) == normal(edges)


def coloured(topology):
    """networkx graph whose edges carry the number of their matching."""
    g = nx.Graph()
    g.add_nodes_from(range(topology.n))
    for number, matching in enumerate(topology.matchings):
        g.add_edges_from(matching, matching=number)
    return g


# Matchings


@given(simple_graphs())
@settings(max_examples=300, deadline=None)
def test_matchings_of_any_simple_graph(graph):
    n, edges = graph
    matchings = matchings_of(n, edges)
    assert_matchings(matchings, edges)
    g = nx.Graph(edges)
    largest = max((degree for _, degree in g.degree), default=0)
    assert len(matchings) <= largest + (not nx.is_bipartite(g))
    assert matchings == matchings_of(n, edges[::-1])


@pytest.mark.parametrize("n, p", [(30, 0.9), (40, 0.5), (60, 0.15), (9, 1.0)])
@pytest.mark.parametrize("seed", range(5))
def test_matchings_of_larger_graphs(n, p, seed):
    graph = erdos_renyi(n, p, seed)
    assert_matchings(graph.matchings, graph.edges)
    assert len(graph.matchings) <= graph.degrees.max() + 1


@pytest.mark.parametrize("seed", range(20))
def test_bipartite_graphs_need_no_extra_matching(seed):
    graph = Topology.from_networkx(nx.bipartite.random_graph(12, 14, 0.5, seed=seed))
    assert_matchings(graph.matchings, graph.edges)
    assert len(graph.matchings) == graph.degrees.max()


def test_petersen_graph_needs_a_fourth_matching():
    # Three-regular and of class two: no algorithm does it with three, and one more is allowed.
    assert len(Topology.from_networkx(nx.petersen_graph()).matchings) == 4


# Topology


def test_views_of_a_topology():
    graph = Topology(4, (((1, 0), (2, 3)), ((2, 0),)), "mine")
    assert graph.matchings == (((0, 1), (2, 3)), ((0, 2),))
    assert graph.edges == ((0, 1), (2, 3), (0, 2))
    assert graph.degrees.tolist() == [2, 1, 2, 1]
    expected = np.array([[2, -1, -1, 0], [-1, 1, 0, 0], [-1, 0, 2, -1], [0, 0, -1, 1]])
    assert np.array_equal(graph.laplacian, expected)
    assert np.array_equal(graph.matching_laplacians[1], [[1, 0, -1, 0], [0] * 4, [-1, 0, 1, 0], [0] * 4])
    assert graph == Topology(4, graph.matchings, "another name")
    assert hash(graph) == hash(Topology(4, graph.matchings))
    with pytest.raises(ValueError, match="read-only"):
        graph.laplacian[0, 0] = 5


@given(simple_graphs())
@settings(max_examples=60, deadline=None)
def test_laplacians_components_and_networkx(graph):
    n, edges = graph
    topology = Topology.from_edges(n, edges)
    g = nx.Graph(edges)
    g.add_nodes_from(range(n))
    expected = np.diag([g.degree[i] for i in range(n)]) - nx.to_numpy_array(g, nodelist=range(n))
    assert np.array_equal(topology.laplacian, expected)
    assert np.array_equal(topology.matching_laplacians.sum(axis=0), expected)
    assert topology.components() == sorted(map(sorted, nx.connected_components(g)))
    assert topology.is_connected == nx.is_connected(g)
    assert nx.utils.graphs_equal(topology.to_networkx(), g)
    assert Topology.from_networkx(topology.to_networkx()).matchings == topology.matchings


def test_networkx_labels_are_kept_or_numbered():
    # Nodes 0..n-1 keep their numbers even when the graph lists them in another order.
    g = nx.Graph([(2, 0), (1, 2)])
    assert Topology.from_networkx(g).edges == ((0, 2), (1, 2))
    assert Topology.from_networkx(nx.Graph([("x", "y"), ("y", "z")])).degrees.tolist() == [1, 2, 1]


@given(simple_graphs(), st.randoms())
@settings(max_examples=60, deadline=None)
def test_permuted_moves_workers_to_places(graph, random):
    topology = Topology.from_edges(*graph)
    perm = list(range(topology.n))
    random.shuffle(perm)
    moved = topology.permuted(perm)
    for i in range(topology.n):
        assert moved.degrees[i] == topology.degrees[perm[i]]
        for j in range(topology.n):
            assert moved.laplacian[i, j] == topology.laplacian[perm[i], perm[j]]
    assert [len(matching) for matching in moved.matchings] == [len(matching) for matching in topology.matchings]


def test_file_round_trip(tmp_path):
    path = tmp_path / "graph.txt"
    path.write_text("# a comment\nn 5\n0 1  # another\n\n3 1\n")
    graph = Topology.from_file(path)
    assert (graph.n, normal(graph.edges)) == (5, [(0, 1), (1, 3)])
    path.write_text("0 1\n3 1\n")
    assert parse(f"file:{path}").n == 4
    # As spreadsheets and editors on other systems write it.
    path.write_bytes(b"\xef\xbb\xbf0\t1\r\n3 1\r\n")
    assert normal(parse(f"file:{path}", 4).edges) == [(0, 1), (1, 3)]
    path.write_text("n 40\n0 1\n")
    assert parse(f"file:{path}", 40).degrees.sum() == 2


# The papers' graphs


@pytest.mark.parametrize("level, count", list(zip(LEVELS, (12, 10, 9, 7, 5), strict=True)))
def test_paper_sets_hold_the_stated_edges_and_are_isomorphic(level, count):
    a, b, c = paper_set(level)
    assert [len(graph.edges) for graph in (a, b, c)] == [count] * 3
    for other in (b, c):
        # Stronger than isomorphic: some exchange of workers maps every matching of A onto that of the other.
        assert nx.is_isomorphic(coloured(a), coloured(other), edge_match=lambda x, y: x == y)
        assert set(other.edges) != set(a.edges)
    assert Topology.from_edges(8, set(a.edges) | set(b.edges) | set(c.edges)).is_connected


def test_paper_lists_are_the_released_ones():
    # Typed again from the released code, so that a slip in the module's text is seen.
    assert paper_graph(100).matchings == (
        ((1, 5), (6, 7), (0, 4), (2, 3)), ((1, 7), (3, 6)), ((0, 1), (3, 7), (5, 6)), ((1, 2), (0, 7)), ((1, 3),),
    )  # fmt: skip
    assert paper_graph(38.5, "C").matchings == (((1, 5),), ((0, 1),), ((3, 6), (0, 2)), ((3, 5),))
    assert paper_graph("69.2", "B").matchings[1] == ((0, 5),)
    assert paper_graph(100) == parse("paper:100") == parse("paper:100.0:A", 8)
    assert parse("paper:53.8:B").name == "paper:53.8:B"


@pytest.mark.parametrize("which", "ABC")
def test_each_level_thins_the_one_above(which):
    for denser, sparser in zip(LEVELS, LEVELS[1:], strict=False):
        assert set(paper_graph(sparser, which).edges) < set(paper_graph(denser, which).edges)
        for more, fewer in zip(
            paper_graph(denser, which).matchings, paper_graph(sparser, which).matchings, strict=False
        ):
            assert set(fewer) <= set(more)


def test_not_every_low_degree_worker_moves_up():
    assert [graph.degrees[5] for graph in paper_set(100)] == [2, 3, 2]
    a, b, c = paper_set(38.5)
    assert [np.flatnonzero(graph.degrees == 0).tolist() for graph in (a, b, c)] == [[4, 7], [1, 2], [4, 7]]


def test_only_the_38_5_level_is_disconnected():
    assert [level for level in LEVELS for graph in paper_set(level) if not graph.is_connected] == ["38.5"] * 3


def first_two(graphs):
    return Topology.from_edges(8, {edge for graph in graphs for matching in graph.matchings[:2] for edge in matching})


def test_two_matching_schedule_cuts_workers_0_and_4_off():
    assert first_two(paper_set(100, 1)).components() == [[0, 4], [1, 2, 3, 5, 6, 7]]


@pytest.mark.parametrize("level", LEVELS)
def test_two_matchings_of_a_and_b_connect_the_dense_levels_only(level):
    assert first_two(paper_set(level, 2)).is_connected == (level in ("100", "84.6", "69.2"))


def test_matcha_graphs():
    shapes = [(len(g.edges), len(g.matchings), g.is_connected) for g in map(matcha_graph, (1, 2, 3, 4))]
    assert shapes == [(22, 5, True), (45, 10, True), (65, 13, True), (34, 8, True)]
    assert {matcha_graph(k).n for k in MATCHA} == {16}
    assert [matcha_graph(k).matchings[-1] for k in MATCHA] == [((2, 11),), ((8, 12),), ((5, 11),), ((0, 12),)]
    assert matcha_graph(1).matchings[1] != matcha_graph(1).matchings[2]
    assert parse("matcha:3", 16) == matcha_graph(3)


# Families


def test_eight_ring_has_the_released_matchings():
    zero = ((0, 1), (2, 3), (4, 5), (6, 7))
    one = ((0, 7), (1, 2), (3, 4), (5, 6))
    assert tuple(tuple(sorted(matching)) for matching in ring(8).matchings) == (zero, one)


@pytest.mark.parametrize(
    "graph, like, matchings",
    [
        (ring(9), nx.cycle_graph(9), 3),
        (line(6), nx.path_graph(6), 2),
        (star(7), nx.star_graph(6), 6),
        (complete(8), nx.complete_graph(8), 7),
        (complete(7), nx.complete_graph(7), 7),
        (torus(4, 4), nx.grid_2d_graph(4, 4, periodic=True), 4),
        (torus(3, 5), nx.grid_2d_graph(3, 5, periodic=True), 5),
        (torus(2, 3), nx.grid_2d_graph(2, 3, periodic=True), 4),
        (exponential(16), nx.circulant_graph(16, [1, 2, 4, 8]), 8),
        (exponential(6), nx.circulant_graph(6, [1, 2, 4]), 5),
        (line(1), nx.path_graph(1), 0),
    ],
    ids=lambda value: value.name if isinstance(value, Topology) else "",
)
def test_families(graph, like, matchings):
    assert nx.is_isomorphic(graph.to_networkx(), like)
    assert_matchings(graph.matchings, graph.edges)
    assert len(graph.matchings) <= matchings


def test_random_graphs_repeat_with_their_seed():
    assert erdos_renyi(16, 0.4, 3) == parse("erdos_renyi:0.4:3", 16) != erdos_renyi(16, 0.4, 4)
    assert geometric(16, 0.5, 3) == parse("geometric:0.5:3", 16) != geometric(16, 0.5, 4)
    for family in ("erdos_renyi:0.4", "geometric:0.5"):
        assert parse(family, 16) == parse(f"{family}:0", 16) != parse(f"{family}:7", 16)
        assert parse(f"{family}:7", 16).name == f"{family}:7" and parse(f"{family}:0", 16).name == family
        assert parse_set(f"{family}:7", 2, 16)[0] == parse(f"{family}:7", 16)
    assert (len(erdos_renyi(10, 0).edges), len(erdos_renyi(10, 1).edges)) == (0, 45)
    assert len(geometric(10, 1.5).edges) == 45
    edges = [len(erdos_renyi(40, 0.3, seed).edges) for seed in range(50)]
    # 780 pairs: 234 edges each, the mean of 50 has a standard deviation of 1.8.
    assert abs(np.mean(edges) - 234) < 9


# Sets and rotations


@pytest.mark.parametrize("spec", ["paper:53.8:A", "matcha:1", "ring", "star", "erdos_renyi:0.2"])
def test_dynamic_sets_move_low_degree_workers_up(spec):
    first, second, third = parse_set(spec, 3, None if spec[:2] in ("pa", "ma") else 12)
    for other in (second, third):
        assert nx.is_isomorphic(coloured(first), coloured(other), edge_match=lambda x, y: x == y)
        assert set(other.edges) != set(first.edges)
    # Whoever has the smaller total so far never gets the smaller degree next.
    for i in range(first.n):
        for j in range(first.n):
            assert first.degrees[i] >= first.degrees[j] or second.degrees[i] >= second.degrees[j]
            total = first.degrees + second.degrees
            assert total[i] >= total[j] or third.degrees[i] >= third.degrees[j]
    totals = sum(graph.degrees for graph in (first, second, third))
    assert np.ptp(totals) < 3 * np.ptp(first.degrees) or np.ptp(first.degrees) == 0
    assert parse_set(spec, 3, first.n) == (first, second, third)


def test_dynamic_set_of_a_disconnected_graph_connects_everyone():
    graphs = dynamic_set(paper_graph(38.5), 3)
    assert Topology.from_edges(8, {edge for graph in graphs for edge in graph.edges}).is_connected
    assert dynamic_set(ring(6), 1) == (ring(6),)


def test_parse_set_takes_the_papers_own_graphs():
    assert parse_set("paper:53.8", 3, 8) == paper_set(53.8)
    assert parse_set("paper:53.8", 1) == (paper_graph(53.8),)
    assert parse_set("paper:53.8:B", 2)[0] == paper_graph(53.8, "B")


def released(batch, count):
    """Plain transcription of the released test on the batch number."""
    if count == 2:
        return 1 if batch % 2 == 0 else 0
    return 1 if batch % 2 == 0 else 2 if batch % 3 == 0 else 0


def test_released_rotation_of_three():
    rotation = Rotation(3, "released", steps_per_epoch=391)
    epoch = [rotation.at(t) for t in range(391)]
    assert "".join("ABC"[graph] for graph in epoch[:6]) == "BABCBA"
    assert (epoch[0], epoch[-1], rotation.at(391)) == (1, 1, 1)
    assert [epoch[:390].count(graph) for graph in range(3)] == [130, 195, 65]


@given(st.integers(2, 3), st.integers(1, 20), st.integers(0, 90))
@settings(max_examples=200, deadline=None)
def test_released_rotation_and_its_counter(count, steps, t):
    rotation = Rotation(count, "released", steps)
    used = [released(step % steps, count) for step in range(t + 1)]
    assert rotation.at(t) == used[t]
    assert rotation.uses_before(t) == used[:t].count(used[t])


@given(st.integers(1, 6), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_uniform_rotation_and_its_counter(count, t):
    rotation = Rotation(count)
    assert rotation.at(t) == t % count
    assert rotation.uses_before(t) == sum(step % count == t % count for step in range(t))


def test_one_graph_is_always_that_graph():
    rotation = Rotation(1, "released")
    assert [rotation.at(t) for t in range(5)] == [0] * 5
    assert rotation.uses_before(7) == 7
