// Batched small polar factors on tensor cores: small_polar.cu with a 16-bit state, sums in float32.
//
//     X <- G / (safety |G|_F + epsilon);   R = X X^T,  P = c_q R,  P <- P R + c_i R ...,  X <- c_0 X + P X
//
// X, R and P are rounded to 16 bits after each product, as in the published 16-bit loops; the norm and the sums are not.
// Shapes: G is m x n with m <= n, m <= 128; one block of 256 threads a matrix, all of X in shared memory.
// Memory: X (m x n), R and P (m x m) in 16 bits with lines 16 longer than a multiple of 16, and 8 KiB for eight tiles of
// sums on their way: 119 KiB at 128 x 128. Each of 8 warps holds up to 8 tiles of sums, 64 registers a thread.
// Cost: as small_polar.cu, with tiles of 16 x 16: one triangle of X X^T and P R. Not measured yet: any time, and its sums.
#include "phases.cuh"

#ifndef IN
#define WITH_HALF
#define IN float16
#endif
#include "tensor.cuh"
#define HELD 8   // tiles of 16 columns of X, of a warp
#define LOWER 5  // tiles of the lower triangle, 36 for 8 warps

KERNEL_FOR(256, 1)
small_polar_tensor(const IN* g, IN* out, const float* coefficients, int steps, int terms, int m, int n, int row_stride,
                   int column_stride, float safety, float epsilon, int clamp) {
    const int rows = (m + 15) / 16, columns = (n + 15) / 16, lower = rows * (rows + 1) / 2, warps = block_threads / 32;
    const int line = rows * 16 + 16, x_line = columns * 16 + 16;
    const IN* mine = g + block_index * m * n;
    IN* result = out + block_index * m * n;
    float* partial = shared_memory<float>();  // as many numbers as the warps' tiles, which come later
    float* sums = partial;
    IN* x = reinterpret_cast<IN*>(sums + 256 * warps);
    IN* r = x + rows * 16 * x_line;
    IN* p = r + rows * 16 * line;
    PRIVATE(Tile, held, HELD);
    PRIVATE(int, place, 2 * LOWER);  // of each tile in the lower triangle

    PHASE {
        float peak = 0;
        for (int e = thread; e < m * n; e += block_threads) {
            const float size = abs(widen(mine[e]));
            peak = isfinite(size) ? fmax(peak, size) : limits<float>::infinity();
        }
        partial[thread] = peak;
        UNROLL for (int t = 0; t < LOWER; ++t) {
            int row = 0, index = thread / 32 + t * warps;
            while (index > row) index -= ++row;
            MINE(place)[2 * t] = row, MINE(place)[2 * t + 1] = index;
        }
    }
    for (int half = block_threads / 2; half; half /= 2)
        PHASE {
            if (thread < half) partial[thread] = fmax(partial[thread], partial[thread + half]);
        }
    const float peak = partial[0], scale = power_of_two(peak);
    const bool finite = isfinite(peak);
    BARRIER;
    PHASE {
        float sum = 0;
        for (int e = thread; e < m * n; e += block_threads) {
            const float value = finite ? widen(mine[e]) / scale : 0.0f;
            sum += value * value;
        }
        partial[thread] = sum;
    }
    for (int half = block_threads / 2; half; half /= 2)
        PHASE {
            if (thread < half) partial[thread] += partial[thread + half];
        }
    float divisor = safety * sqrt(partial[0]);
    divisor = clamp ? fmax(divisor, epsilon / scale) : divisor + epsilon / scale;
    if (!(divisor > 0)) divisor = 1;
    PHASE {
        for (int e = thread; e < rows * 16 * x_line; e += block_threads) {
            const int i = e / x_line, j = e % x_line;
            const bool inside = i < m && j < n && finite;
            narrow(inside ? widen(mine[i * row_stride + j * column_stride]) / scale / divisor : 0.0f, &x[e]);
        }
    }
    for (int step = 0; step < steps; ++step) {
        const float* c = coefficients + step * terms;
        for (int term = terms - 1; term > 0; --term) {  // the first time P = c R of R = X X^T, then P R + c R
            const bool first = term == terms - 1;
            PHASE {
                if (LEADS(thread))
                    UNROLL for (int t = 0; t < LOWER; ++t)
                        if (thread / 32 + t * warps < lower) {
                            const int i = MINE(place)[2 * t] * 16, j = MINE(place)[2 * t + 1] * 16;
                            clear(MINE(held)[t]);
                            if (first)
                                ROLLED for (int k = 0; k < columns * 16; k += 16)
                                    multiply<false>(MINE(held)[t], x + i * x_line + k, x_line, x + j * x_line + k, x_line);
                            else
                                ROLLED for (int k = 0; k < rows * 16; k += 16)
                                    multiply<false>(MINE(held)[t], p + i * line + k, line, r + j * line + k, line);
                        }
            }
            UNROLL for (int t = 0; t < LOWER; ++t)
                if (t * warps < lower) {
                    PHASE {
                        if (LEADS(thread) && thread / 32 + t * warps < lower) store(MINE(held)[t], sums + thread / 32 * 256, 16);
                    }
                    PHASE {
                        if (thread / 32 + t * warps < lower)
                            for (int e = thread % 32; e < 256; e += 32) {
                                const int i = MINE(place)[2 * t] * 16 + e / 16, j = MINE(place)[2 * t + 1] * 16 + e % 16;
                                if (j > i) continue;
                                float value = sums[thread / 32 * 256 + e];
                                if (first) {
                                    narrow(value, &r[i * line + j]);
                                    narrow(value, &r[j * line + i]);
                                    value *= c[term];
                                } else
                                    value += c[term] * widen(r[i * line + j]);
                                narrow(value, &p[i * line + j]);
                                narrow(value, &p[j * line + i]);
                            }
                    }
                }
        }
        for (int group = 0; group < columns; group += warps) {  // a warp owns 16 columns of X
            PHASE {
                const int j = (group + thread / 32) * 16;
                if (LEADS(thread) && j < columns * 16)
                    UNROLL for (int t = 0; t < HELD; ++t)
                        if (t < rows) {
                            clear(MINE(held)[t]);
                            ROLLED for (int k = 0; k < (terms > 1 ? rows * 16 : 0); k += 16)
                                multiply<true>(MINE(held)[t], p + t * 16 * line + k, line, x + k * x_line + j, x_line);
                        }
            }
            UNROLL for (int t = 0; t < HELD; ++t)
                if (t < rows) {
                    PHASE {
                        if (LEADS(thread) && group + thread / 32 < columns) store(MINE(held)[t], sums + thread / 32 * 256, 16);
                    }
                    PHASE {
                        const int j = (group + thread / 32) * 16;
                        if (j < columns * 16)
                            for (int e = thread % 32; e < 256; e += 32) {
                                IN* entry = x + (t * 16 + e / 16) * x_line + j + e % 16;
                                narrow(c[0] * widen(*entry) + sums[thread / 32 * 256 + e], entry);
                            }
                    }
                }
        }
    }
    PHASE {
        for (int e = thread; e < m * n; e += block_threads) {
            const int i = e / n, j = e % n;
            if (finite)
                result[i * row_stride + j * column_stride] = x[i * x_line + j];
            else
                narrow(limits<float>::nan(), &result[i * row_stride + j * column_stride]);
        }
    }
}
