"""Edge lists of the graphs that the AL-DSGD and MATCHA papers trained on (released code of both).

Plain data in the authors' own grouping: the edges of one matching stand together, matchings are separated by
``|`` and kept in the released order, because the released two-matching schedule uses only the first two.
"""

# AL-DSGD: eight workers, "15" is the edge between workers 1 and 5. Per level the graphs A, B and C. The
# levels are the authors' names, k/13 for k = 13, 11, 9, 7, 5; the lists hold 12, 10, 9, 7 and 5 edges.
PAPER = {
    "100": {
        "A": "15 67 04 23 | 17 36 | 10 37 56 | 12 70 | 31",
        "B": "46 52 31 70 | 42 05 | 43 02 65 | 47 23 | 04",
        "C": "23 04 67 15 | 43 10 | 63 14 02 | 35 46 | 31",
    },
    "84.6": {
        "A": "15 04 23 | 17 36 | 10 37 56 | 12 70",
        "B": "46 31 70 | 42 05 | 43 02 65 | 47 23",
        "C": "23 67 15 | 43 10 | 63 14 02 | 35 46",
    },
    "69.2": {
        "A": "15 04 23 | 36 | 10 37 56 | 12 70",
        "B": "46 31 70 | 05 | 43 02 65 | 47 23",
        "C": "23 67 15 | 10 | 63 14 02 | 35 46",
    },
    "53.8": {
        "A": "04 23 | 36 | 10 37 56 | 12",
        "B": "31 70 | 05 | 43 02 65 | 47",
        "C": "67 15 | 10 | 63 14 02 | 35",
    },
    "38.5": {
        "A": "23 | 36 | 10 56 | 12",
        "B": "70 | 05 | 43 65 | 47",
        "C": "15 | 10 | 63 02 | 35",
    },
}
PAPER_WORKERS = 8

# MATCHA: sixteen workers, graphs 1 to 4. Graph 1 is MATCHA's own list: AL-DSGD's copy repeats a matching.
MATCHA = {
    1: (
        "4-8 6-11 7-13 0-12 5-14 10-15 2-3 1-9 | 11-13 14-2 5-6 15-3 10-9 | 11-8 2-5 13-4 14-3 0-10 | "
        "11-5 15-14 13-8 | 2-11"
    ),
    2: (
        "2-7 12-15 3-13 5-6 8-0 9-4 11-14 1-10 | 8-6 0-11 3-2 5-4 15-14 1-9 | 8-3 0-6 11-2 4-1 12-14 | "
        "8-11 6-3 0-5 | 8-2 0-3 6-7 11-12 | 8-5 6-4 0-2 11-7 | 8-15 3-7 0-4 6-2 | 8-14 5-3 11-6 0-9 | "
        "8-7 15-11 2-5 4-3 1-0 13-6 | 12-8"
    ),
    3: (
        "3-12 4-8 1-13 5-7 9-10 11-14 6-15 0-2 | 7-14 2-6 5-13 8-10 1-15 0-11 3-9 4-12 | "
        "2-7 3-15 9-13 6-11 4-14 10-12 1-8 0-5 | 5-14 1-12 13-8 9-4 2-11 7-0 | 5-1 14-8 13-12 10-4 6-7 | "
        "5-9 14-1 13-3 8-2 11-7 | 5-12 14-13 1-9 8-0 | 5-2 14-10 1-3 9-8 13-15 | 5-8 14-12 1-4 13-10 | "
        "5-3 14-2 9-12 1-10 13-4 | 5-6 14-0 8-12 1-2 | 5-15 9-14 | 11-5"
    ),
    4: (
        "2-7 3-15 13-14 8-9 1-5 0-10 6-12 4-11 | 12-11 5-6 14-1 9-10 15-2 8-13 | 12-5 11-6 1-8 9-3 2-10 | "
        "12-14 11-9 5-15 0-6 1-7 | 12-8 5-2 11-14 1-6 | 12-15 13-11 10-5 3-14 | 12-9 | 0-12"
    ),
}
MATCHA_WORKERS = 16


def matchings_from_text(text: str) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Matchings of one list above: ``"15"`` and ``"1-5"`` are both the edge (1, 5)."""
    return tuple(
        tuple(tuple(map(int, edge.split("-") if "-" in edge else edge)) for edge in matching.split())
        for matching in text.split("|")
    )
