// Momentum, Nesterov mix and Frobenius norm in one pass, and AuON's whole step, in place.
//
//     stage 0   M <- beta M + (1 - beta) G;   D = beta M + (1 - beta) G, or M without nesterov;   |D|_F
//     stage 1   X = D / (|D|_F + 1e-7);   rho = sqrt(mean cosh^2(gamma X))
//     stage 2   W <- (1 - lr weight_decay) W - factor lr (X or D) / (rho + 1e-8)
//
// Shapes: w, m, g hold matrices of `size` entries, `parts` blocks each; lr, beta, decay one number a matrix.
// Reductions have two phases: a block adds its entries in shared memory and leaves partial sums in `lengths` (3 a block)
// and `cosines` (1 a block); the next stage adds those of its matrix, in an order that does not depend on the launch.
// With one part a matrix all stages run in one launch, a barrier between them; with more each stage is a launch.
// The norm is Blue's: squares of large and of small entries are scaled apart, so that nothing overflows or vanishes.
// Cost: 3 reads and 1 write of an entry in stage 0 (one more where D is asked for), 2 reads in stage 1, 3 reads and 1
// write in stage 2, mostly from L2 for matrices that fit there. Not measured yet: any time on a GPU.
#include "phases.cuh"

#ifndef ACC
#define ACC float
#endif

FUNCTION ACC power(int e) { return ldexp(ACC(1), e); }

// Thresholds and scales of Blue's algorithm for the exponents and digits of the type.
struct Blue {
    static constexpr bool wide = sizeof(ACC) == 8;
    static constexpr int small = wide ? -511 : -63, big = wide ? 486 : 52, grow = wide ? 537 : 75, shrink = wide ? -538 : -76;
};

FUNCTION ACC length_of(ACC small, ACC middle, ACC big) {
    const ACC grow = power(Blue::grow), shrink = power(Blue::shrink);
    if (big > 0) return sqrt(big + middle * shrink * shrink) / shrink;
    if (small > 0 && middle == 0) return sqrt(small) / grow;
    return sqrt(middle + small / grow / grow);
}

FUNCTION ACC direction_of(ACC average, ACC gradient, ACC beta, int nesterov) {
    return nesterov ? beta * average + (1 - beta) * gradient : average;
}

KERNEL auon_step(ACC* w, ACC* m, const ACC* g, ACC* direction, ACC* norms, ACC* lengths, ACC* cosines, const ACC* lr,
                 const ACC* beta, const ACC* decay, ACC gamma, ACC factor, int nesterov, int normalized, int write_direction,
                 long long size, int parts, int first_stage, int last_stage) {
    const long long matrix = block_index / parts, offset = matrix * size;
    const int part = block_index % parts;
    const long long start = size * part / parts, end = size * (part + 1) / parts;
    const ACC b = beta[matrix];
    ACC* sums = shared_memory<ACC>();  // three rows, a number for each thread
    ACC* mine = sums;
    ACC norm = 0, rho = 0;

    if (first_stage <= 0) {
        const ACC low = power(Blue::small), high = power(Blue::big), grow = power(Blue::grow), shrink = power(Blue::shrink);
        PHASE {
            ACC small = 0, middle = 0, big = 0;
            for (long long e = offset + start + thread; e < offset + end; e += block_threads) {
                const ACC gradient = g[e], average = b * m[e] + (1 - b) * gradient;
                const ACC value = direction_of(average, gradient, b, nesterov), magnitude = abs(value);
                m[e] = average;
                if (write_direction) direction[e] = value;
                if (magnitude > high)
                    big += (value * shrink) * (value * shrink);
                else if (magnitude < low)
                    small += (value * grow) * (value * grow);
                else
                    middle += value * value;
            }
            mine[thread] = small, mine[block_threads + thread] = middle, mine[2 * block_threads + thread] = big;
        }
        for (int half = block_threads / 2; half; half /= 2)
            PHASE {
                if (thread < half)
                    for (int row = 0; row < 3; ++row)
                        mine[row * block_threads + thread] += mine[row * block_threads + thread + half];
            }
        PHASE {
            if (thread < 3) lengths[(matrix * parts + part) * 3 + thread] = mine[thread * block_threads];
        }
    }
    if (last_stage >= 1) {
        PHASE {
            for (int row = 0; row < 3; ++row) {
                ACC sum = 0;
                for (int p = thread; p < parts; p += block_threads) sum += lengths[(matrix * parts + p) * 3 + row];
                mine[row * block_threads + thread] = sum;
            }
        }
        for (int half = block_threads / 2; half; half /= 2)
            PHASE {
                if (thread < half)
                    for (int row = 0; row < 3; ++row)
                        mine[row * block_threads + thread] += mine[row * block_threads + thread + half];
            }
        norm = length_of(mine[0], mine[block_threads], mine[2 * block_threads]);
        PHASE {
            if (thread == 0 && part == 0) norms[matrix] = norm;
        }
    }
    const ACC divisor = norm + ACC(1e-7);
    if (first_stage <= 1 && last_stage >= 1 && w) {
        PHASE {
            ACC sum = 0;
            for (long long e = offset + start + thread; e < offset + end; e += block_threads) {
                const ACC c = cosh(gamma * (direction_of(m[e], g[e], b, nesterov) / divisor));
                sum += c * c;
            }
            mine[thread] = sum;
        }
        for (int half = block_threads / 2; half; half /= 2)
            PHASE {
                if (thread < half) mine[thread] += mine[thread + half];
            }
        PHASE {
            if (thread == 0) cosines[matrix * parts + part] = mine[0];
        }
    }
    if (last_stage >= 2) {
        PHASE {
            ACC sum = 0;
            for (int p = thread; p < parts; p += block_threads) sum += cosines[matrix * parts + p];
            mine[thread] = sum;
        }
        for (int half = block_threads / 2; half; half /= 2)
            PHASE {
                if (thread < half) mine[thread] += mine[thread + half];
            }
        rho = sqrt(mine[0] / size) + ACC(1e-8);
        PHASE {
            for (long long e = offset + start + thread; e < offset + end; e += block_threads) {
                const ACC value = direction_of(m[e], g[e], b, nesterov);
                const ACC step = (normalized ? value / divisor : value) / rho;
                w[e] = (1 - lr[matrix] * decay[matrix]) * w[e] - lr[matrix] * factor * step;
            }
        }
    }
}
