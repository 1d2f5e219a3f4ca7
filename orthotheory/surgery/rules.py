"""The rules that are not aggregators of one Jacobian, by name: what implements each, what it does, and its card."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..names import closest
from .continual import GPM, OGD, ROGO, IF2Net, federated_basis
from .contract import Card
from .dictionary import OrthogonalDictionary
from .merging import OPCM, core_space, decouple, frank_wolfe, iso_c, iso_cts, osrm, ota
from .orthogonal import SpectralMGDA, project_in_metric, spectral_cone_step
from .procrustes import compatible_alignment, lambda_orthogonality, procrustes
from .retain import Bloop, DynamicBarrier, OrthogonalGradient
from .sculpting import CoSO, sculpt
from .sparse_svd import append_sparse_columns
from .subspace import append_columns, frequent_directions
from .tangent import Lattice, RadialProjection
from .unlearning import disentangle, joint_update, safe_step


class Rule(NamedTuple):
    """A frozen class of options or a pure function, the family it belongs to, and its card."""

    rule: Any
    family: str
    card: Card


RULES: dict[str, Rule] = {
    "bloop": Rule(Bloop, "retain", Card(
        "Bloop", "hsieh2024careful", "exact",
        "The authors add 1e-7 to |e|^2 (here eps = 0 by default); their rescaled branch evaluates to 1 + lam by "
        "operator precedence, where 1 / (1 + lam) stands here.")),
    "dynamic-barrier": Rule(DynamicBarrier, "retain", Card(
        "Dynamic barrier", "gong2021automatic", "exact",
        "The form with an averaged gradient is that of the Bloop authors' code [hsieh2024careful].")),
    "odice": Rule(OrthogonalGradient, "retain", Card(
        "ODICE's orthogonal-gradient update", "mao2024odice", "exact",
        "The authors floor |f|^2 at 1e-10; the value term of their loss is not part of the rule.")),
    "disentangle": Rule(disentangle, "forget", Card(
        "Geometric-disentanglement unlearning", "zhou2025geometric", "reconstructed",
        "From abstract and project page. Rank rule, metric form and zero threshold are ours.")),
    "disentangle-joint": Rule(joint_update, "forget", Card(
        "Joint forget-retain update", "zhou2025geometric", "reconstructed",
        "Weights of the two parts are free; the authors' optimum was not read.")),
    "safe-step": Rule(safe_step, "forget", Card(
        "Forgetting that may only lower retain losses", "zhou2025geometric", "reconstructed",
        "The inequality form, a projection on a cone, is ours.")),
    "radial": Rule(RadialProjection, "tangent", Card(
        "Radial projection of AdamP and SGDP", "heo2021adamp", "exact",
        "The authors add eps to |w|; a vector parameter is a matrix with one row here.")),
    "lattice": Rule(Lattice, "tangent", Card(
        "Lattice's orthogonal state update", "karami2025lattice", "reconstructed",
        "A gradient step through the normalization of the slots; no chunked parallel form.")),
    "ogd": Rule(OGD, "sequence", Card(
        "Orthogonal gradient descent", "farajtabar2019orthogonal", "exact",
        "Stored directions are orthonormalized twice.")),
    "gpm": Rule(GPM, "sequence", Card(
        "Gradient projection memory", "saha2021gradient", "exact",
        "The code keeps one vector less after the first task than the text says: option `first`.")),
    "rogo": Rule(ROGO, "sequence", Card(
        "Restricted orthogonal gradient projection", "yang2023restricted", "exact",
        "All directions are relaxed at once. The authors' returned basis is not orthonormal; its span is used here.")),
    "federated": Rule(federated_basis, "sequence", Card(
        "Federated orthogonal training", "bakman2023federated", "reconstructed",
        "From the abstract. Secure summation is not simulated.")),
    "if2net": Rule(IF2Net, "sequence", Card(
        "IF2Net's recursive null-space projector", "li2023if2net", "reconstructed",
        "The re-tuning of representations is not part of it.")),
    "coso": Rule(CoSO, "sequence", Card(
        "Continuous subspace optimization", "cheng2025continuous", "secondary",
        "From a summary by others. What becomes of Adam's moments when the subspace changes is ours.")),
    "sculpting": Rule(sculpt, "sequence", Card(
        "Sculpting subspaces", "nayak2025sculpting", "exact",
        "The projection only; the rule that chooses ranks by layer is not part of it.")),
    "svd-update": Rule(append_columns, "subspace", Card(
        "Truncated-SVD updating", "zha1999updating", "exact",
        "Dense columns; `svd-update-sparse` is the variant for sparse ones.")),
    "svd-update-sparse": Rule(append_sparse_columns, "subspace", Card(
        "Fast truncated-SVD updating for sparse matrices", "deng2024fast", "reconstructed",
        "From the abstract: Q by its Gram matrix, singular vectors as products. When to multiply them out is ours.")),
    "frequent-directions": Rule(frequent_directions, "subspace", Card(
        "Frequent directions", "ghashami2016frequent", "exact", "A block of rows at a time.")),
    "iso-c": Rule(iso_c, "merging", Card(
        "Iso-C", "marczak2025task", "exact",
        "rank_aware=True leaves out the directions that the SVD makes up where the sum is rank-deficient; ours.")),
    "iso-cts": Rule(iso_cts, "merging", Card("Iso-CTS", "marczak2025task", "exact")),
    "opcm": Rule(OPCM, "merging", Card(
        "OPCM, merging on the fly", "tang2025merging", "exact",
        "An earlier revision of the code zeroed the diagonal of a copy: variant `copy`. The norm is that of one "
        "matrix, not of the model.")),
    "core-space": Rule(core_space, "merging", Card("Core space", "panariello2025accurate", "exact")),
    "osrm": Rule(osrm, "merging", Card(
        "OSRM", "zhang2025unraveling", "exact",
        "The authors stack one mean input a task; any stack of inputs is taken here.")),
    "do-merging": Rule(decouple, "merging", Card(
        "DO-Merging", "zheng2025decouple", "secondary",
        "From a summary by others; axis, means and the squared penalty of `orthogonalize_factors` are reconstructed.")),
    "fw-merging": Rule(frank_wolfe, "merging", Card(
        "FW-Merging", "chen2025fw", "exact",
        "The authors' choice by cosine is rule='cosine'; rule='linear' is the linear minimization of Frank-Wolfe. "
        "Theirs sums cosines over the tensors of a model; here there is one matrix.")),
    "ota": Rule(ota, "merging", Card(
        "OTA", "mahdavinia2025harnessing", "exact",
        "An entry that every task masks takes the base; the code does so by an option and otherwise takes the plain "
        "mean, and it calls an entry masked up to 1.1 eps. Its rank-r storage of v is not part of it.")),
    "procrustes": Rule(procrustes, "alignment", Card(
        "Orthogonal Procrustes", "schonemann1966generalized", "exact")),
    "oca": Rule(compatible_alignment, "alignment", Card(
        "Orthogonal compatible alignment", "ricci2024backward", "reconstructed",
        "A closed form in place of a layer that is trained with the model.")),
    "lambda-orthogonality": Rule(lambda_orthogonality, "alignment", Card(
        "Lambda-orthogonality", "ricci2025lambda", "reconstructed",
        "A constrained least-squares problem in place of a gated penalty on a training loss.")),
    "orthogonal-dictionary": Rule(OrthogonalDictionary, "alignment", Card(
        "Online orthogonal dictionary by Frank-Wolfe", "xue2021online", "reconstructed",
        "From the abstract; constants of the step sizes are ours.")),
    "spectral-mgda": Rule(SpectralMGDA, "orthogonal", SpectralMGDA.card),
    "spectral-cone-step": Rule(spectral_cone_step, "orthogonal", Card(
        "Spectral cone step", "lopezpaz2017gradient", "reconstructed",
        "ours: GEM's projection with margin 0, in the spectral ball of a step of Muon.")),
    "metric-projection": Rule(project_in_metric, "orthogonal", Card(
        "Cone projection in the optimizer's metric", "quinton2024jacobian", "reconstructed",
        "ours: DualProj with the metric of a diagonal preconditioner.")),
}  # fmt: skip


def names() -> list[str]:
    """Return the names of the rules."""
    return list(RULES)


def get(name: str) -> Rule:
    """Return a rule by its name.

    >>> get("bloop").card.status
    'exact'
    """
    return closest(name, RULES, "rule")


__all__ = ["RULES", "Rule", "get", "names"]
