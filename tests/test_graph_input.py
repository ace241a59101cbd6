"""Graphs that are no graphs: one sentence for anything a user may type or write."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd.errors import ConfigError
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
from tests.test_graphs import assert_matchings


def shortened(value) -> str:
    return value[:20] if isinstance(value, str) else ""


@pytest.mark.parametrize(
    "n, matchings, message",
    [
        (3, [[(0, 3)]], r"edge \(0, 3\) names a worker outside 0..2"),
        (3, [[(-1, 2)]], "outside 0..2"),
        (3, [[(1, 1)]], r"edge \(1, 1\) is a self-loop"),
        (3, [[(0, 1)], [(1, 0)]], r"edge \(0, 1\) appears twice"),
        (3, [[(0, 1), (1, 2)]], "matching 0 uses worker 1 twice"),
        (3, [[(0, 1, 2)]], "not a pair of worker numbers"),
        (3, [[(0, 1.5)]], "not a pair of worker numbers"),
        (3, [[("0", "1")]], "not a pair of worker numbers"),
        (3, [[(0, 10**5000)]], "names a worker outside 0..2"),
        (4, ((0, 1), (1, 2)), r"\(0, 1\) is an edge where a matching.* Topology.from_edges\(n, edges\)"),
        (4, np.array([[0, 1], [1, 2]]), "is an edge where a matching"),
        (4, (0, 1), "a matching must be given as a list, not 0"),
        (4, None, "matchings must be given as a list, not None"),
        (4097, [], "4097 workers are too many: graphs are meant for up to 4096, .* 128 MB"),
        (-(10**5000), [], "at least one worker, not a number of thousands of digits"),
        (10**5000, [], "a number of thousands of digits workers are too many"),
        ("8", [], "whole number, not '8'"),
        (0, [], "at least one worker, not 0"),
        (2.5, [], "whole number, not 2.5"),
    ],
    ids=shortened,
)
def test_topology_refuses(n, matchings, message):
    with pytest.raises(ConfigError, match=message):
        Topology(n, matchings)


@pytest.mark.parametrize(
    "edges, message", [([(0, 1), (1, 0)], "twice"), ([(2, 2)], "self-loop"), ([(0, 9)], "outside")]
)
def test_matchings_of_refuses(edges, message):
    with pytest.raises(ConfigError, match=message):
        matchings_of(3, edges)


def test_disconnected_graph_is_refused_by_its_components():
    with pytest.raises(ConfigError, match=r"paper:38.5:A is not connected.* 3 components are \[0, 1, .*\] \[4\] \[7\]"):
        paper_graph(38.5).require_connected()
    with pytest.raises(ConfigError, match=r"\[7\] \.\.\.: use") as caught:
        Topology(20, ()).require_connected()
    assert "\n" not in str(caught.value)
    ring(5).require_connected()


@pytest.mark.parametrize(
    "spec, workers, message",
    [
        ("cube", 8, "unknown graph 'cube': known are paper:LEVEL"),
        ("ring:8", 8, "unknown graph 'ring:8'"),
        ("paper:50", 8, "unknown level '50'.*use one of 100, 84.6, 69.2, 53.8, 38.5"),
        ("paper:", 8, "unknown level ''"),
        ("paper:100:D", 8, "unknown graph 'D'.*A, B or C"),
        ("paper:100", 16, "has 8 workers, not the 16 asked for"),
        ("matcha:5", 16, "unknown MATCHA graph 5"),
        ("matcha:one", 16, "unknown MATCHA graph 'one'"),
        ("torus:4", 16, "needs its sides, such as torus:4x4"),
        ("torus:4x0", 16, "at least one row and one column"),
        ("torus:4x4", 8, "has 16 workers, not the 8 asked for"),
        ("ring", None, "give the number of workers"),
        ("ring", 2, "a ring needs at least 3 workers, not 2: use line"),
        ("erdos_renyi", 8, "needs a number after the colon, such as erdos_renyi:0.4"),
        ("erdos_renyi:1.5", 8, "between 0 and 1, not 1.5"),
        ("erdos_renyi:nan", 8, "between 0 and 1"),
        ("geometric:0", 8, "must be positive"),
        ("star", 0, "at least one worker"),
        ("file:nowhere.txt", 8, r"cannot read the edge list nowhere.txt \(No such file"),
        ("file:", 8, "^'' is not a file"),
        ("file:/", 8, "^/ is not a file: give"),
        ("file:/dev/zero", 8, "^/dev/zero is not a file"),
        ("file:a\0b", 8, "cannot read the edge list 'a.x00b'"),
        (None, 8, "given by its name, not None: known are paper:LEVEL"),
        (8, 8, "given by its name, not 8"),
        ("", 8, "unknown graph ''"),
        ("none", 8, "unknown graph 'none'"),
        (":", 8, "unknown graph ':'"),
        ("star:", 8, "unknown graph 'star:'"),
        ("cube\nand more", None, r"unknown graph 'cube.nand more'"),
        ("x" * 10**6, None, "unknown graph 'xxx.* characters"),
        ("paper", None, "unknown level ''"),
        ("paper:100:", 8, "unknown graph ''.*A, B or C"),
        ("paper:100:A:B", 8, "unknown graph 'A:B'"),
        ("matcha:" + "9" * 5000, None, "unknown MATCHA graph"),
        ("torus:0x4", None, "at least one row and one column"),
        ("torus:99999999x99999999", None, "9999999800000001 workers are too many"),
        ("torus:" + "9" * 5000 + "x4", None, "needs its sides"),
        ("torus:-1x4", None, "needs its sides"),
        ("erdos_renyi:0.4:", 8, "needs a seed after its second colon, such as erdos_renyi:0.4:7"),
        ("erdos_renyi:0.4:-1", 8, "needs a seed"),
        ("erdos_renyi:0.4:7:7", 8, "needs a seed"),
        ("erdos_renyi:0.4:4294967296", 8, "seed must be a whole number from 0 to 4294967295"),
        ("geometric::7", 8, "needs a number after the colon"),
        ("geometric:inf", 8, "positive and finite"),
        ("geometric:1e400", 8, "positive and finite"),
        ("complete", 1100, "a graph of 604450 edges is too large: up to 524288"),
        ("erdos_renyi:1", 4096, "edges is too large"),
        ("geometric:2", 4096, "edges is too large"),
        *[
            (spec, workers, message)
            for spec in (
                "ring",
                "line",
                "star",
                "complete",
                "exponential",
                "erdos_renyi:0.4",
                "geometric:0.4",
                "torus:2x2",
            )
            for workers, message in [
                (0, "at least one worker, not 0"),
                (-3, "at least one worker, not -3"),
                (10**8, "100000000 workers are too many"),
                (2.5, "whole number, not 2.5"),
                ("8", "whole number, not '8'"),
            ]
        ],
    ],
    ids=shortened,
)
def test_parse_refuses(spec, workers, message):
    with pytest.raises(ConfigError, match=message):
        parse(spec, workers)


@pytest.mark.parametrize("family", [ring, line, star, complete, exponential])
def test_families_refuse_what_is_no_count(family):
    for wrong in (0, -1, 8.0, None, "8", 10**8):
        with pytest.raises(ConfigError, match="worker"):
            family(wrong)
    assert family(np.int64(8)) == family(8)
    assert type(family(np.int64(8)).edges[-1][1]) is int


# Anything a user may type or write: a graph, or one sentence.

WORDS = st.sampled_from(
    ["paper", "matcha", "ring", "line", "star", "complete", "exponential", "torus", "erdos_renyi", "geometric", "file"]
    + [
        ":",
        "x",
        "#",
        " ",
        "\n",
        "A",
        "100",
        "53.8",
        "0.4",
        "4",
        "4x4",
        "0",
        "-1",
        "nan",
        "inf",
        "1e9",
        "9" * 20,
        "n",
        "\0",
    ]
)


@given(st.lists(WORDS, max_size=6).map("".join) | st.text(max_size=20), st.none() | st.integers(-2, 40))
@settings(max_examples=500, deadline=None)
def test_any_name_is_a_graph_or_one_sentence(spec, workers):
    try:
        graph = parse(spec, workers)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 500
    else:
        assert graph.n == (workers or graph.n)
        assert_matchings(graph.matchings, graph.edges)


LINES = st.lists(WORDS | st.integers(0, 12).map(str) | st.just(" "), max_size=5).map("".join)
EDGES = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda edge: f"{edge[0]} {edge[1]}")
FILES = st.lists(EDGES, min_size=1, max_size=8) | st.lists(EDGES | LINES, max_size=6)
ENCODED = st.tuples(FILES, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))


@given(ENCODED.map(lambda t: t[1].join(t[0]).encode(t[2])) | st.binary(max_size=40), st.none() | st.integers(1, 13))
@settings(max_examples=500, deadline=None)
def test_any_file_is_a_graph_or_one_sentence(tmp_path_factory, content, workers):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    try:
        graph = parse(f"file:{path}", workers)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 500
    else:
        rows = [line.split("#")[0].split() for line in content.decode("utf-8-sig").splitlines()]
        pairs = [tuple(map(int, row)) for row in rows if row and row[0] != "n"]
        assert_matchings(graph.matchings, pairs)
        assert graph.n == (workers or graph.n)


@pytest.mark.parametrize(
    "text, message",
    [
        ("0 1\n1 x\n", "line 2 of .* is not 'i j'"),
        ("0 1 2\n", "line 1 of .* is not 'i j'"),
        ("0 1\nn 8\n", "line 2 of .* is not 'i j'"),
        ("n 8 8\n", "line 1"),
        ("0 -1\n", "line 1"),
        ("# nothing\n", "is empty"),
        ("n 3\n0 3\n", "outside 0..2"),
        ("0 1\n1 0\n", "twice"),
        ("2 2\n", "self-loop"),
        ("0,1\n", "line 1 of .* is not 'i j', two worker numbers with a space between them .*: '0,1'"),
        ("0 1\n0 1000000000\n", "line 2 of .* names worker 1000000000, but 999999998 numbers below it have no edge"),
        ("0 1\n0 " + "9" * 20, "line 2 .* names worker 9{20}, but .* renumber .* or start the file with 'n COUNT'"),
        ("0 1\n0 " + "9" * 5000, "line 2 of .* is not 'i j'"),
        ("0 " + "1" * 10**6, "line 1 of .* is not 'i j'.* characters"),
        ("n 1000000000\n0 1\n", "1000000000 workers are too many"),
        ("".join(f"{i} {i + 1}\n" for i in range(5000)), "5001 workers are too many"),
        ("0 1\n" * 600_000, "a graph of 600000 edges is too large"),
        ("# " + "x" * 2**24, "is too large: 16 MB and 524288 edges are meant to work"),
        ("n 3\nn 3\n", "line 2 of .* is not 'i j'"),
    ],
    ids=shortened,
)
def test_edge_list_file_refuses(tmp_path, text, message):
    path = tmp_path / "graph.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Topology.from_file(path)


def test_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "graph.bin"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the edge list.* not UTF-8 text"):
        Topology.from_file(path)


def test_a_file_of_another_size_than_the_run_is_refused_before_it_is_built(tmp_path):
    path = tmp_path / "graph.txt"
    for largest in (10**9, 10**20):
        path.write_text(f"0 1\n\n1 {largest}\n")
        with pytest.raises(ConfigError, match=f"has {largest + 1} workers, not the 4 .* line 3 names worker {largest}"):
            parse(f"file:{path}", 4)


def test_a_graph_of_the_largest_size_is_built():
    assert len(exponential(4096).edges) == 4096 * 11 + 2048
    assert len(complete(1024).edges) == 523_776


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: paper_set(100, 4), "ask for 1 to 3 graphs, not 4"),
        (lambda: parse_set("paper:100", 4), "ask for 1 to 3 graphs, not 4"),
        (lambda: dynamic_set(ring(4), 0), "at least one graph, not 0"),
        (lambda: dynamic_set(ring(4), 2.5), "number of graphs in turn must be a whole number, not 2.5"),
        (lambda: parse_set("ring", 10**9, 8), "1000000000 graphs in turn are too many: up to 64"),
        (lambda: parse_set("paper:100", None), "whole number, not None"),
        (lambda: Rotation(2.5), "whole number, not 2.5"),
        (lambda: Rotation(10**9), "too many"),
        (lambda: Rotation(2, "released", 1.5), "steps_per_epoch must be a whole number, not 1.5"),
        (lambda: torus(2.0, 4), "a side of a torus must be a whole number, not 2.0"),
        (lambda: erdos_renyi(8, "0.4"), "between 0 and 1, not '0.4'"),
        (lambda: erdos_renyi(8, 0.4, 1.5), "seed of a graph must be a whole number, not 1.5"),
        (lambda: erdos_renyi(8, 0.4, -1), "seed must be a whole number from 0"),
        (lambda: geometric(8, None), "positive and finite, not None"),
        (lambda: paper_graph([100]), "unknown level"),
        (lambda: paper_graph(100, ["A"]), "unknown graph"),
        (lambda: matcha_graph([1]), "unknown MATCHA graph"),
        (lambda: ring(3).permuted([0.0, 1.7, 2.2]), "place of a permutation must be a whole number, not 0.0"),
        (lambda: Topology.from_edges(3, 5), "edges must be given as a list, not 5"),
        (lambda: Topology.from_edges(3, "01"), "not a pair of worker numbers"),
        (lambda: Topology.from_edges(3, np.array([[0.0, 1.0]])), "not a pair of worker numbers"),
        (lambda: Topology.from_networkx([(0, 1)]), "is not a networkx graph"),
        (lambda: Topology.from_networkx(nx.path_graph(5000)), "5000 workers are too many"),
        (lambda: ring(4).permuted([0, 1, 2, 2]), "each of 0..3 once"),
        (lambda: Topology.from_networkx(nx.DiGraph([(0, 1)])), "directed"),
        (lambda: Topology.from_networkx(nx.MultiGraph([(0, 1), (0, 1)])), "parallel edges"),
        (lambda: Topology.from_networkx(nx.Graph([(0, 0)])), "self-loop"),
        (lambda: Topology.from_networkx(nx.Graph()), "at least one worker"),
        (lambda: Rotation(0), "at least one graph"),
        (lambda: Rotation(2, "random"), "unknown order 'random'.*uniform or released"),
        (lambda: Rotation(4, "released", 10), "released order is for 1 to 3 graphs, not 4"),
        (lambda: Rotation(3, "released"), "give steps_per_epoch"),
        (lambda: Rotation(3, "released", 0), "give steps_per_epoch"),
    ],
)
def test_sets_rotations_and_networkx_refuse(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
