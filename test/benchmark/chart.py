#!/usr/bin/env python3
"""Draws time against density from what compare.py measured, as an SVG: one panel a sequence length.

usage: chart.py BENCH.json... -o CHART.svg
Points are medians of whole layers of 40 heads; "ideal" is our own dense time times the share of blocks.
"""

import argparse
import json

INK, PAPER, GRID = "#1f2430", "#ffffff", "#e3e6ec"
SERIES = (("cuDNN, dense", "#8a94a6"), ("FlashAttention-3, dense", "#7c5cbf"), ("FlexAttention", "#d98324"),
          ("FlashAttention-4", "#2f9e63"), ("CalibAtt", "#2563c9"), ("ideal", "#2563c9"))
DENSE = {"cuDNN dense": "cuDNN, dense", "FlashAttention-3 dense": "FlashAttention-3, dense"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 430, 300, 62, 46, 70


def computed(row):
    """The share of blocks: of ours less than the mask's density where heads are repetitive."""
    blocks = (-(-row["tokens"] // 128)) ** 2 * row["heads"]
    return row["density"] if row["visits"] is None else row["visits"] / blocks


def panels(rows):
    """{tokens: {series: sorted [(density, ms)]}} of layers of 40 heads, repetitive ones left out."""
    found = {}
    for row in rows:
        if row["heads"] != 40 or row["batch"] != 1 or "matmul" in row["name"] or "repetitive" in row["name"]:
            continue
        series = DENSE.get(row["name"], row["name"] if row["name"] in dict(SERIES) else "CalibAtt")
        found.setdefault(row["tokens"], {}).setdefault(series, []).append(
            (computed(row), row["milliseconds"][0]))
    for series in found.values():
        for points in series.values():
            points.sort()
        dense = series["CalibAtt"][-1]
        series["ideal"] = [(0.0, 0.0), (1.0, dense[1] / dense[0])]
        for name in set(DENSE.values()) & set(series):
            middle = sorted(ms for _, ms in series[name])
            series[name] = [(x, middle[len(middle) // 2]) for x in (0.0, 1.0)]
    return dict(sorted(found.items()))


def nice_step(most):
    for step in (1, 2, 5, 10, 20, 50, 100, 200):
        if most / step <= 6:
            return step
    return 500


def panel(tokens, series, left):
    most = 1.08 * max(ms for points in series.values() for _, ms in points)
    x = lambda density: left + density * WIDTH
    y = lambda ms: TOP + HEIGHT - ms / most * HEIGHT
    out = [f'<text x="{left}" y="{TOP - 18}" class="title">{tokens:,} tokens, 40 heads of 128</text>']
    step = nice_step(most)
    for i in range(int(most / step) + 1):
        out.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y(i * step):.1f}" y2="{y(i * step):.1f}" '
                   f'stroke="{GRID}"/><text x="{left - 8}" y="{y(i * step) + 4:.1f}" class="end">{i * step}</text>')
    for percent in (0, 25, 50, 75, 100):
        out.append(f'<text x="{x(percent / 100):.1f}" y="{TOP + HEIGHT + 20}" class="mid">{percent} %</text>')
    out.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 42}" class="mid">blocks computed</text>')
    for name, colour in SERIES:
        points = series.get(name, [])
        dash = ' stroke-dasharray="3 5"' if name == "ideal" else ""
        path = " ".join(f"{x(d):.1f},{y(ms):.1f}" for d, ms in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if name in ("FlexAttention", "FlashAttention-4", "CalibAtt"):
            out += [f'<circle cx="{x(d):.1f}" cy="{y(ms):.1f}" r="4" fill="{colour}"/>' for d, ms in points]
    return out


def draw(rows):
    charts = panels(rows)
    width = LEFT + len(charts) * (WIDTH + GAP)
    height = TOP + HEIGHT + 84
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
           f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">',
           "<style>.title{font-size:15px;font-weight:bold}.end{text-anchor:end}.mid{text-anchor:middle}</style>",
           f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
           f'<text x="16" y="{TOP + HEIGHT / 2}" transform="rotate(-90 16 {TOP + HEIGHT / 2})" '
           'class="mid">milliseconds</text>']
    for i, (tokens, series) in enumerate(charts.items()):
        out += panel(tokens, series, LEFT + i * (WIDTH + GAP))
    at = LEFT
    for name, colour in SERIES:
        dash = ' stroke-dasharray="3 5"' if name == "ideal" else ""
        label = "ideal: our dense time x density" if name == "ideal" else name
        out.append(f'<line x1="{at}" x2="{at + 26}" y1="{height - 18}" y2="{height - 18}" stroke="{colour}" '
                   f'stroke-width="2"{dash}/><text x="{at + 34}" y="{height - 14}">{label}</text>')
        at += 52 + 6.6 * len(label)
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", nargs="+")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    rows = []
    for path in arguments.results:
        with open(path) as file:
            rows += json.load(file)["rows"]
    with open(arguments.output, "w") as file:
        file.write(draw(rows))


if __name__ == "__main__":
    main()
