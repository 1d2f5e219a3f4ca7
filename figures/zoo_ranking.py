"""All methods on all problems of the comparison: loss at equal budget, steps at equal stationary loss; and the table."""

import dataclasses

import numpy as np

from orthotheory.comparison import PAPER, RULES, SMOKE, TASKS, compare_all, cost, participants, standing
from orthotheory.plotting import Figure
from orthotheory.plotting.rows import heat_rows

TOP = 2.0  # decades behind the best that count for the order, at most
DARK = 4.0  # decades behind the best from which colors end


def data(size):
    protocol, tasks = PAPER, TASKS
    if size == "smoke":
        protocol = SMOKE
        tasks = tuple(dataclasses.replace(TASKS[i], steps=12, every=3) for i in (4, 6, -1))
    names, left_out = participants()
    outcomes = compare_all(names, tasks, protocol)
    tried = {key: np.round(np.log10(o.rates) * protocol.per_decade).astype(int) for key, o in outcomes.items()}
    rates = np.unique(np.concatenate(list(tried.values())))
    tuned = np.full((len(names), len(tasks), len(rates)), np.nan)
    for i, m in enumerate(names):
        for j, t in enumerate(tasks):
            tuned[i, j, np.searchsorted(rates, tried[m, t.label])] = outcomes[m, t.label].tuned
    costs = [cost(m) for m in names]

    def by(f):
        return np.array([[f(outcomes[m, t.label]) for t in tasks] for m in names])

    return {
        "methods": np.array(names), "tasks": np.array([t.label for t in tasks]),
        "levels": np.array([t.level for t in tasks]), "steps": np.array([t.steps for t in tasks]),
        "left out": np.array([f"{reason}" for reason in left_out.values()], dtype=str),
        "final": by(lambda o: o.final["budget"]), "steps to level": by(lambda o: o.steps_to_level["level"]),
        "chosen": by(lambda o: [o.chosen[rule] for rule in RULES]),
        "at edge": by(lambda o: [o.at_edge[rule] for rule in RULES]),
        "failed": by(lambda o: o.failed["budget"]).astype(str),
        "diverged": by(lambda o: np.mean(o.diverged > 0)),
        "tuned": tuned, "rates": 10.0 ** (rates / protocol.per_decade),
        "products": np.array([c.products for c in costs]), "total": np.array([c.total for c in costs]),
        "factorizations": np.array([c.factorizations for c in costs]),
    }  # fmt: skip


def standings(data, key):
    """Return one Standing per problem of "final" or "steps to level"."""
    return [standing(data[key][:, j]) for j in range(len(data["tasks"]))]


def order(data):
    """Return the methods from the smallest mean shortfall, capped at `TOP` on each problem, to the largest."""
    behind = np.array([np.minimum(s.behind, TOP) for s in standings(data, "final")])
    return np.argsort(behind.mean(axis=0), kind="stable")


def draw(data, fig):
    rows = order(data)
    panels = []
    for title, key in (("loss at equal budget", "final"), ("steps at equal loss", "steps to level")):
        found = standings(data, key)
        behind = np.array([s.behind for s in found]).T[rows]
        panels.append((title, np.where(np.isfinite(behind), behind, np.nan), np.array([s.tied for s in found]).T[rows]))
    heat_rows(fig, data["methods"][rows], panels, top=DARK, columns=data["tasks"],
              label="decades behind the best method (dot: not distinguished from it; gray: a run lost or not run, or level not reached)")  # fmt: skip


def numbers(data):
    final, level = standings(data, "final"), standings(data, "steps to level")
    tied = np.array([s.tied for s in final])
    ahead = order(data)
    behind = np.array([np.minimum(s.behind, TOP) for s in final]).mean(axis=0)
    out = {
        "methods": len(data["methods"]), "problems": len(data["tasks"]), "seeds": data["final"].shape[2],
        "left out": len(data["left out"]), "pairs": data["chosen"][..., 0].size,
        "at edge": int(data["at edge"].sum()), "lost a run": int((~np.isfinite(data["final"])).any(axis=2).sum()),
        "most wins": int(tied.sum(axis=0).max()), "fewest wins": int(tied.sum(axis=0).min()),
        "methods that win somewhere": int(tied.any(axis=0).sum()),
        "level not reached": int(sum((~np.isfinite(s.mean)).sum() for s in level)),
        "first": str(data["methods"][ahead[0]]), "first behind": float(behind[ahead[0]]),
        "second": str(data["methods"][ahead[1]]), "second behind": float(behind[ahead[1]]),
    }  # fmt: skip
    for j, task in enumerate(data["tasks"]):
        best = int(np.argmin(final[j].mean))
        out |= {f"best on {task}": str(data["methods"][best]), f"tied on {task}": int(tied[j].sum())}
        for name in ("muon", "polargrad", "adam", "gd", "nesterov", "auon"):
            if name in data["methods"] and np.isfinite(final[j].behind[list(data["methods"]).index(name)]):
                out[f"{name} on {task}"] = float(final[j].behind[list(data["methods"]).index(name)])
    return out


def table(data):
    final = standings(data, "final")
    heads = " & ".join(f"\\rotatebox{{90}}{{{task}}}" for task in data["tasks"])
    reached = np.isfinite(np.array([s.mean for s in standings(data, "steps to level")])).sum(axis=0)
    lines = []
    for i in order(data):
        cells = [
            _cell(s.mean[i], s.half_width[i], s.tied[i], bool(data["at edge"][i, j, 0])) for j, s in enumerate(final)
        ]
        costs = [f"{data[key][i]:.3g}" for key in ("products", "factorizations", "total")]
        lines.append(f"\\texttt{{{data['methods'][i]}}} & {' & '.join([*costs, *cells, str(reached[i])])} \\\\\n")
    spec = "@{}l@{\\hskip3pt}" + "r@{\\hskip3pt}" * 3 + "r@{\\hskip3pt}" * len(final) + "r@{}"
    turned = " & ".join(f"\\rotatebox{{90}}{{{x}}}" for x in ("products", "factorizations", "all in products"))
    return (
        f"\\begin{{tabular}}{{{spec}}}\n\\toprule\nmethod & {turned} & {heads} & \\rotatebox{{90}}{{levels reached}} \\\\\n"
        f"\\midrule\n{''.join(lines)}\\bottomrule\n\\end{{tabular}}\n"
    )


def _cell(mean, half, tied, edge):
    if not np.isfinite(mean):
        return "lost"
    digits = f"({round(100 * half)})" if half < 0.995 else f"({half:.1f})"
    text = f"{mean:.2f}{digits}"
    text = f"\\mathbf{{{text}}}" if tied else text
    return f"${text}{'^{e}' if edge else ''}$"


FIGURE = Figure(
    name="zoo-ranking",
    caption=(
        r"\result{zoo-ranking}{methods} methods on \result{zoo-ranking}{problems} problems by the protocol of "
        r"Section~\ref{sec:zoo}, each at the learning rate tuned for it, \result{zoo-ranking}{seeds} fresh seeds. Left map of each "
        r"half: final loss after the same number of steps. Right: steps until the loss stays at the level of the problem, the "
        r"same for all methods. Color: mean distance to the best method of the column in decades; a dot marks those whose "
        r"paired difference to it is not distinguished from zero. Rows are sorted by the mean of the left map."
    ),
    shows=("polargrad-ahead-on-least-squares", "namo-ahead-of-muon-and-adam", "auon-comparable-to-adam"),
    data=data,
    draw=draw,
    numbers=numbers,
    table=table,
    size=(6.5, 7.4),
)
