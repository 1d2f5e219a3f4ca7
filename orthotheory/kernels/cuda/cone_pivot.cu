// Batched projection on cones of at most 8 rows: block principal pivoting, one problem a thread.
//
//     v >= 0,   y = q + C v >= 0,   v * y = 0          C the Gramian of unit rows, q their products with the point
//
// The support is a bit mask. A sweep eliminates on it without square roots in a triangle of registers, and every
// violated sign changes sides; after three sweeps without fewer violations only the last index does (Murty's rule).
// Certificate: residual = max_i |min(v_i, y_i)|, zero at the solution; least = the smallest relative pivot.
// Shapes: c is M x M x lanes, q and v are M x lanes, lanes last, so that a warp reads neighbors.
// Cost: at most 4 M + 12 sweeps of M^3 / 6 multiply-adds; C is read again in each sweep, from L1 or L2.
// Occupancy, by arithmetic: a thread holds the triangle, M (M + 1) / 2 numbers, and 2 M more. NVRTC 12.9 takes 74
// registers at M = 3 and 240 at M = 8 in float64, without a spill: six and two blocks of 128 threads share an SM.
// Divergence: a warp takes the sweeps of its slowest problem. Not measured yet: any time on a GPU.
#include "phases.cuh"

#ifndef M
#define M 3
#define ACC double
#endif

KERNEL cone_pivot(const ACC* c, const ACC* q, ACC* v, ACC* least, ACC* residual, int* solved, long long lanes) {
    const ACC singular = ACC(450) * limits<ACC>::eps;  // 1e-13 in float64: rounding errors of the Gramian
    PHASE {
        const long long lane = block_index * block_threads + thread;
        if (lane < lanes) {
            ACC a[M * (M + 1) / 2], d[M], x[M];
            unsigned support = 0;
            UNROLL for (int i = 0; i < M; ++i) support |= (unsigned)(q[i * lanes + lane] < 0) << i;
            int best = M + 1, patience = 3, violations = M + 1;
            bool lost = false;
            ACC smallest = 1, gap = 0;
            for (int sweep = 0; sweep < 4 * M + 12 && violations > 0 && !lost; ++sweep) {
                smallest = 1;
                UNROLL for (int i = 0; i < M; ++i) {
                    const bool inside = support >> i & 1;
                    x[i] = inside ? -q[i * lanes + lane] : ACC(0);
                    UNROLL for (int j = 0; j <= i; ++j)
                        a[i * (i + 1) / 2 + j] = inside && (support >> j & 1) ? c[(i * M + j) * lanes + lane] : ACC(0);
                }
                UNROLL for (int k = 0; k < M; ++k) {
                    const bool inside = support >> k & 1;
                    const ACC pivot = a[k * (k + 1) / 2 + k];
                    const ACC relative = inside ? pivot / c[(k * M + k) * lanes + lane] : ACC(1);
                    if (relative < smallest || relative != relative) smallest = relative;
                    d[k] = inside && relative > singular ? pivot : ACC(1);
                    UNROLL for (int i = k + 1; i < M; ++i) {
                        const ACC ratio = a[i * (i + 1) / 2 + k] / d[k];
                        UNROLL for (int j = k + 1; j <= i; ++j)
                            a[i * (i + 1) / 2 + j] -= ratio * a[j * (j + 1) / 2 + k];
                        x[i] -= ratio * x[k];
                    }
                }
                ACC largest = 0;
                UNROLL for (int k = M - 1; k >= 0; --k) {
                    ACC sum = x[k];
                    UNROLL for (int i = k + 1; i < M; ++i) sum -= a[i * (i + 1) / 2 + k] * x[i];
                    x[k] = sum / d[k];
                    largest = fmax(largest, abs(x[k]));
                }
                const ACC slack = 4 * M * limits<ACC>::eps * (1 + largest);
                unsigned wrong = 0;
                violations = 0, gap = 0;
                ROLLED for (int i = 0; i < M; ++i) {  // not unrolled: C is read again instead of kept in registers
                    ACC own = 0, sum = q[i * lanes + lane];
                    UNROLL for (int j = 0; j < M; ++j) {
                        sum += c[(i * M + j) * lanes + lane] * x[j];
                        if (j == i) own = x[j];
                    }
                    const bool violated = (support >> i & 1 ? own : sum) < -slack;
                    wrong |= (unsigned)violated << i;
                    violations += violated;
                    const ACC positive = own > 0 ? own : ACC(0), natural = abs(positive < sum ? positive : sum);
                    if (natural > gap || natural != natural) gap = natural;
                }
                lost = !(smallest > singular);  // a dependent support: left to another method
                if (violations < best)
                    best = violations, patience = 3;
                else
                    --patience;
                unsigned last = wrong;
                while (last & (last - 1)) last &= last - 1;
                support ^= patience >= 0 ? wrong : last;
            }
            UNROLL for (int i = 0; i < M; ++i) v[i * lanes + lane] = x[i] > 0 ? x[i] : ACC(0);
            least[lane] = smallest;
            residual[lane] = gap;
            solved[lane] = violations == 0 && !lost && gap == gap;  // a NaN is not solved
        }
    }
}
