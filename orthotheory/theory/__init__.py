"""Theorems as objects: statement, tested assumptions, two computed sides, a control that fails."""

from __future__ import annotations

from ..names import closest
from .chebyshev import THEOREMS as CHEBYSHEV_THEOREMS
from .constrained import THEOREMS as CONSTRAINED_THEOREMS
from .contract import Assumption, AssumptionFails, Theorem, Verdict, check, ledger_row, verify, verify_control
from .cycle import spectral_cycle_commuting
from .descent import exact_accounting, trust_region_nonconvex
from .edge import THEOREMS as EDGE_THEOREMS
from .floors import THEOREMS as FLOOR_THEOREMS
from .guarantees import THEOREMS as GUARANTEE_THEOREMS
from .inexact import THEOREMS as INEXACT_THEOREMS
from .isotropic import THEOREMS as ISOTROPIC_THEOREMS
from .lion_k import THEOREMS as LION_K_THEOREMS
from .lion_k_flow import LionKFlow, lion_k_dissipation, lion_k_lyapunov, lion_k_phase
from .methods_adapters import THEOREMS as ADAPTER_THEOREMS
from .methods_adaptive import THEOREMS as ADAPTIVE_THEOREMS
from .methods_blocks import THEOREMS as BLOCK_THEOREMS
from .methods_counted import THEOREMS as COUNTED_THEOREMS
from .methods_geometry import THEOREMS as GEOMETRY_THEOREMS
from .methods_preconditioned import THEOREMS as PRECONDITIONED_THEOREMS
from .methods_projected import THEOREMS as PROJECTED_THEOREMS
from .methods_subspaces import THEOREMS as SUBSPACE_THEOREMS
from .minimax import THEOREMS as MINIMAX_THEOREMS
from .momentum_theory import THEOREMS as MOMENTUM_THEOREMS
from .multiplier import cycle_multiplier
from .norm_duality import THEOREMS as NORM_THEOREMS
from .one_step import THEOREMS as ONE_STEP_THEOREMS
from .order import THEOREMS as ORDER_THEOREMS
from .orthogonality import THEOREMS as ORTHOGONALITY_THEOREMS
from .parametrizations import cayley_neumann_orthogonality
from .pivots import jacobi_random_pivot
from .polynomials import newton_schulz_factor
from .quadratic_rates import THEOREMS as QUADRATIC_RATE_THEOREMS
from .rates import Exponent, fit_exponent
from .rational import THEOREMS as RATIONAL_THEOREMS
from .relaxed_smoothness import THEOREMS as RELAXED_THEOREMS
from .retain import THEOREMS as RETAIN_THEOREMS
from .smoothness import smoothness_quadratic
from .stochastic import trust_region_momentum
from .surgery import THEOREMS as SURGERY_THEOREMS
from .surgery_orthogonal import THEOREMS as ORTHOGONAL_SURGERY_THEOREMS
from .surgery_projections import THEOREMS as PROJECTION_THEOREMS

TABLE: dict[str, Theorem] = {
    theorem.label: theorem
    for theorem in (
        smoothness_quadratic,
        exact_accounting,
        trust_region_nonconvex,
        trust_region_momentum,
        spectral_cycle_commuting,
        cycle_multiplier,
        newton_schulz_factor,
        *RATIONAL_THEOREMS,
        jacobi_random_pivot,
        lion_k_dissipation,
        lion_k_lyapunov,
        lion_k_phase,
        *LION_K_THEOREMS,
        *CONSTRAINED_THEOREMS,
        *ORTHOGONALITY_THEOREMS,
        cayley_neumann_orthogonality,
        *MINIMAX_THEOREMS,
        *SURGERY_THEOREMS,
        *ORTHOGONAL_SURGERY_THEOREMS,
        *PROJECTION_THEOREMS,
        *RETAIN_THEOREMS,
        *ADAPTIVE_THEOREMS,
        *GEOMETRY_THEOREMS,
        *BLOCK_THEOREMS,
        *PRECONDITIONED_THEOREMS,
        *PROJECTED_THEOREMS,
        *GUARANTEE_THEOREMS,
        *ORDER_THEOREMS,
        *EDGE_THEOREMS,
        *MOMENTUM_THEOREMS,
        *INEXACT_THEOREMS,
        *FLOOR_THEOREMS,
        *QUADRATIC_RATE_THEOREMS,
        *ONE_STEP_THEOREMS,
        *ADAPTER_THEOREMS,
        *SUBSPACE_THEOREMS,
        *COUNTED_THEOREMS,
        *ISOTROPIC_THEOREMS,
        *RELAXED_THEOREMS,
        *NORM_THEOREMS,
        *CHEBYSHEV_THEOREMS,
    )
}


def names() -> list[str]:
    """Return the labels of all theorems."""
    return list(TABLE)


def get(label: str) -> Theorem:
    """Return a theorem by its label.

    >>> get("exact-accounting").kind
    'identity'
    """
    return closest(label, TABLE, "theorem")


__all__ = [
    "TABLE",
    "Assumption",
    "AssumptionFails",
    "Exponent",
    "LionKFlow",
    "Theorem",
    "Verdict",
    "check",
    "exact_accounting",
    "fit_exponent",
    "get",
    "ledger_row",
    "names",
    "newton_schulz_factor",
    "smoothness_quadratic",
    "spectral_cycle_commuting",
    "trust_region_nonconvex",
    "verify",
    "verify_control",
]
