"""Slow, plain transcriptions of the methods: one worker after another, loops only, nothing of the fast path."""

import numpy as np


def active_neighbours(i, matchings):
    """Active neighbours of worker i, in matching order."""
    found = []
    for matching in matchings:
        for a, b in matching:
            if a == i:
                found.append(b)
            elif b == i:
                found.append(a)
    return found


def leaders_of(i, matchings, losses, neighbours_only=False):
    """(best worker, maximum-degree worker) that worker i can hear."""
    candidates = ([] if neighbours_only else [i]) + active_neighbours(i, matchings)
    candidates = [j for j in candidates if np.isfinite(losses[j])]
    best = largest = None
    for j in candidates:
        if best is None or losses[j] < losses[best]:
            best = j
        if largest is None or len(active_neighbours(j, matchings)) > len(active_neighbours(largest, matchings)):
            largest = j
    return (i, i) if best is None else (best, largest)


def gossip_of(i, matchings, y, alpha):
    z = (1 - alpha * len(active_neighbours(i, matchings))) * y[i]
    for j in active_neighbours(i, matchings):
        z = z + alpha * y[j]
    return z


def released_step(x, grads, losses, matchings, alpha, eta, c1, c2, p1, p2, neighbours_only=False):
    """One AL-DSGD iteration in the order of the released code (one exchange)."""
    n = len(x)
    y = [x[i] - eta * grads[i] for i in range(n)]
    new = []
    for i in range(n):
        b, m = leaders_of(i, matchings, losses, neighbours_only)
        z = gossip_of(i, matchings, y, alpha)
        u = (1 - c1 - c2) * z + c1 * y[b] + c2 * y[m]
        new.append(u - p1 * (u - y[b]) - p2 * (u - y[m]))
    return np.stack(new)


def printed_step(x, grads, losses, matchings, alpha, eta, c1, c2, p1, p2, scale, neighbours_only=False):
    """One AL-DSGD iteration in the printed order: force first, then averaging (two exchanges)."""
    n = len(x)
    half, chosen = [], []
    for i in range(n):
        b, m = leaders_of(i, matchings, losses, neighbours_only)
        chosen.append((b, m))
        half.append(x[i] - eta * grads[i] - scale * p1 * (x[i] - x[b]) - scale * p2 * (x[i] - x[m]))
    new = []
    for i in range(n):
        b, m = chosen[i]
        new.append((1 - c1 - c2) * gossip_of(i, matchings, half, alpha) + c1 * half[b] + c2 * half[m])
    return np.stack(new)


def followed_row(i, matchings, W, scores, c1, c2, p1, p2, selection="argmin", a=0.0, shift=0.0, neighbours_only=False):
    """Row i of the matrix of AL-DSGD's parts, released order; ``scores``: what worker i goes by, one a worker."""
    n, hood = len(W), [i, *active_neighbours(i, matchings)]
    b, m = leaders_of(i, matchings, scores, neighbours_only)
    S, T, U = np.zeros(n), np.zeros(n), np.zeros(n)
    S[b], T[m], U[hood] = 1.0, 1.0, 1 / len(hood)
    if selection != "argmin":
        able = [j for j in hood if W[i, j] > 0 and np.isfinite(scores[j]) and not (neighbours_only and j == i)]
        value = {j: scores[j] if selection == "soft" else sum(scores[k] < scores[j] for k in able) for j in able}
        spread = max(value.values()) - min(value.values()) if able else 0.0
        weight = {j: W[i, j] * np.exp(-a * (value[j] - min(value.values())) / (spread or 1.0)) for j in able}
        mass = sum(max(W[i, j], 0.0) for j in hood)
        S = np.minimum(W[i], 0.0)
        for j in able:
            S[j] += mass * weight[j] / sum(weight.values())
        S[i] += 0.0 if able else mass
    averaged = (1 - c1 - c2) * W[i] + c1 * S + c2 * T
    return (1 - p1 - p2) * averaged + p1 * S + p2 * T + shift * (S - U)


def consensus_recursion(eta, smoothness, sigma2, zeta2, n, rho, steps):
    """s^2 (steps + 1,) from s = 0, of the recursion by which ``bounds.consensus_bound`` is derived, as an equality."""
    squares = [0.0]
    for _ in range(steps):
        pull = (1 + eta * smoothness) * np.sqrt(squares[-1]) + eta * np.sqrt(zeta2)
        squares.append(rho * (pull**2 + eta**2 * sigma2 * (1 - 1 / n)))
    return np.array(squares)
