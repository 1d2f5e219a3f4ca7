"""What a method does from layer to layer of a network: ranks by importance, and merges of what is not a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..arrays import Array, array_namespace, check_number, to_host
from .merging import check_tasks, iso_c
from .tangent import cosine


def layer_importance(inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
    """Return the mean cosine of each layer's inputs and outputs, (samples, n) each, divided so that their mean is 1.

    A layer that hardly turns its input passes on what older tasks built, and counts as important [nayak2025sculpting].
    Negative means count as 0, and all layers as equal where none is positive; that, and dividing by the mean, are our
    reading.
    """
    if len(inputs) != len(outputs) or not len(inputs):
        raise ValueError(
            f"layer_importance needs one output a layer; got {len(inputs)} inputs, {len(outputs)} outputs."
        )
    for layer, (x, y) in enumerate(zip(inputs, outputs, strict=True)):
        if x.ndim != 2 or x.shape != y.shape or not x.shape[0]:
            raise ValueError(
                f"layer_importance compares inputs and outputs of one shape (samples, n); layer {layer} has "
                f"{tuple(x.shape)} and {tuple(y.shape)}."
            )
    means = [
        max(0.0, float(to_host(array_namespace(x).mean(cosine(x, y))))) for x, y in zip(inputs, outputs, strict=True)
    ]
    average = sum(means) / len(means)
    return [mean / average if average > 0 else 1.0 for mean in means]


def sculpting_ranks(
    importance: Sequence[float], shapes: Sequence[tuple[int, int]], *, least: float = 0.1, target: float = 0.5
) -> list[int]:
    """Return how many singular directions `sculpt` freezes in each layer.

        rank = (least + importance (target - least)) min(m, n),   rounded, from 1 to min(m, n) - 1

    With importances of mean 1 the mean ratio is `target` before rounding. Reconstructed from [nayak2025sculpting].
    """
    check_number(target, "target", high=1.0)
    check_number(least, "least", high=target)
    if len(importance) != len(shapes):
        raise ValueError(f"sculpting_ranks needs one shape a layer; got {len(importance)} and {len(shapes)}.")
    small = [min(shape) for shape in shapes]
    if min(small, default=2) < 2:
        raise ValueError(f"sculpting_ranks needs matrices with at least two rows and columns; got {list(shapes)}.")
    return [
        min(max(round((least + share * (target - least)) * k), 1), k - 1)
        for share, k in zip(importance, small, strict=True)
    ]


def merge_layers(layers: Mapping[str, Array], rule: Callable[[Array], Array] = iso_c) -> dict[str, Array]:
    """Merge task vectors layer by layer: a matrix (tasks, m, n) by the rule, anything else by the mean of the tasks.

    So do the authors of Iso [marczak2025task]; note that Iso-C has the nuclear norm of the *sum* of the tasks, while
    biases and scales get the mean.
    """
    merged = {}
    for name, tasks in layers.items():
        if tasks.ndim < 1 or not tasks.shape[0]:
            raise ValueError(
                f"merge_layers needs the tasks along the first axis; {name!r} has shape {tuple(tasks.shape)}."
            )
        if tasks.ndim == 3:
            check_tasks(tasks, f"merge_layers ({name})")
            merged[name] = rule(tasks)
        else:
            merged[name] = array_namespace(tasks).mean(tasks, axis=0)
    return merged


__all__ = ["layer_importance", "merge_layers", "sculpting_ranks"]
