"""Asynchronous D-PSGD, AD-PSGD (Lian et al. 2018, arXiv 1710.06952): pairs average while gradients are computed.

As a gradient at x_i begins, worker i asks a random neighbour j; one message later both have (x_i + x_j) / 2, at once.
When the gradient is done, x_i <- x_i - eta g, by then at another x_i. The sum of all models changes by the local moves
alone. A lost message, or a neighbour that is away, means that this average does not take place.
"""

from aldsgd.algorithm import as_graphs
from aldsgd.asynchronous import Asynchronous
from aldsgd.clocks import uniform
from aldsgd.methods import Look, Method, Variant


class ADPSGD(Asynchronous):
    """AD-PSGD.

    Args:
        graphs: a Topology, or several, of which the union counts. seed: of the random neighbours.
    """

    meets = "pairs"

    def __init__(self, graphs, seed=0, allow_disconnected=False):
        graphs = as_graphs(graphs, allow_disconnected)
        self.n, self.draw = graphs[0].n, uniform("random neighbour", seed)
        edges = {tuple(sorted(edge)) for graph in graphs for edge in graph.edges}
        self.near = [sorted(a + b - i for a, b in edges if i in (a, b)) for i in range(self.n)]

    def start(self, i, net):
        net.compute(i)
        if near := self.near[i]:
            j = near[int(self.draw(i, net.count[i]) * len(near))]
            net.post(i, None, (j,), models=2)

    def finished(self, i, gradient, net):
        net.note(i, net.version[i] - net.read[i])
        net.move(i, gradient)
        self.start(i, net)

    def received(self, i, message, net):
        j = message.source
        if net.here[j]:
            net.x[[i, j]] = net.x[[i, j]].mean(dim=0)
            net.version[i] += 1
            net.version[j] += 1

    def helpers(self, i):
        return (*self.near[i], *(j for j in super().helpers(i) if j not in self.near[i]))

    def description(self):
        return {"neighbours": self.near}


METHOD = Method(
    "adpsgd",
    "AD-PSGD",
    lambda options, setting: ADPSGD(setting.topologies, setting.seed, setting.disconnected),
    asynchronous=True,
    place=210,
    variants={"AD-PSGD": Variant({"method": "adpsgd"}, Look("#332288", "s", ":"), standard=False)},
)
