// Batched small polar factors: normalization and all polynomial steps of one matrix in one block.
//
//     X <- G / (safety |G|_F + epsilon);   R = X X^T,  P = c_q R,  P <- (P + c_i I) R ...,  X <- c_0 X + P X
//
// Shapes: G is m x n with m <= n (a tall matrix comes with its strides exchanged), m <= 16 TILE; one block a matrix.
// Memory: two symmetric m x m matrices and a panel of `width` columns of X in shared memory. Where n <= width, X
// never leaves it; otherwise panels travel through `work`, which is as large as G and stays in the L2 cache.
// Cost: for terms t a step, m^2 n + m^2 n / 2 multiply-adds for X and (t - 2) m^3 / 2 for P: symmetric products compute
// one triangle. Each thread owns one TILE x TILE tile of a product in registers, so 2 TILE loads serve TILE^2
// multiply-adds: at TILE 4 a warp reads at most 12 different runs of 4 numbers for 512 multiply-adds.
// Occupancy, by arithmetic: float32 64 x 64 takes 50 KiB and 256 threads, four blocks an SM of 227 KiB; 32 x 32 takes
// 13 KiB and 64 threads. In the triangular products 136 of 256 threads work; the idle warps leave the units to the
// other blocks. Not measured yet: any time on a GPU.
#include "phases.cuh"

#ifndef IN
#define IN float
#define ACC float
#define TILE 4
#endif

FUNCTION void lower_tile(int index, int* row, int* column) {
    int i = 0;
    while ((i + 1) * (i + 2) / 2 <= index) ++i;
    *row = i, *column = index - i * (i + 1) / 2;
}

// acc = sum over k of a[i, k] b[k, j] on a tile, operands by their strides
FUNCTION void multiply_tile(const ACC* a, int ai, int ak, const ACC* b, int bk, int bj, int length, ACC* acc) {
    for (int k = 0; k < length; ++k) {
        ACC left[TILE], right[TILE];
        UNROLL for (int i = 0; i < TILE; ++i) left[i] = a[i * ai + k * ak];
        UNROLL for (int j = 0; j < TILE; ++j) right[j] = b[k * bk + j * bj];
        UNROLL for (int i = 0; i < TILE; ++i)
            UNROLL for (int j = 0; j < TILE; ++j) acc[i * TILE + j] += left[i] * right[j];
    }
}

FUNCTION void store_symmetric(ACC* r, int ld, int row, int column, const ACC* acc, ACC factor) {
    UNROLL for (int i = 0; i < TILE; ++i)
        UNROLL for (int j = 0; j < TILE; ++j) {
            if (row == column && j > i) continue;  // the lower triangle of a diagonal tile decides both halves
            ACC value = factor * acc[i * TILE + j];
            r[(row * TILE + i) * ld + column * TILE + j] = value;
            r[(column * TILE + j) * ld + row * TILE + i] = value;
        }
}

KERNEL small_polar(const IN* g, IN* out, ACC* work, const ACC* coefficients, int steps, int terms, int m, int n,
                   int row_stride, int column_stride, int width, ACC safety, ACC epsilon, int clamp) {
    const int tiles = (m + TILE - 1) / TILE, padded = tiles * TILE, panels = (n + width - 1) / width;
    const int lower = tiles * (tiles + 1) / 2, ld = (width + TILE - 1) / TILE * TILE + 1;  // odd: no bank conflicts
    const IN* mine = g + block_index * m * n;
    IN* result = out + block_index * m * n;
    ACC* stored = work + (panels > 1 ? block_index * m * n : 0);
    ACC* r = shared_memory<ACC>();
    ACC* p = r + padded * padded;
    ACC* x = p + padded * padded;
    ACC* partial = x + padded * ld;
    PRIVATE(ACC, tile, TILE * TILE);

    // The largest magnitude; a number that is not finite shows as infinity.
    PHASE {
        ACC peak = 0;
        for (int e = thread; e < m * n; e += block_threads) {
            ACC size = abs(ACC(widen(mine[e])));
            peak = isfinite(size) ? fmax(peak, size) : limits<ACC>::infinity();
        }
        partial[thread] = peak;
    }
    for (int half = block_threads / 2; half; half /= 2)
        PHASE {
            if (thread < half) partial[thread] = fmax(partial[thread], partial[thread + half]);
        }
    const ACC peak = partial[0], scale = power_of_two(peak);
    const bool finite = isfinite(peak);
    PHASE {
    }
    // Its Frobenius norm after that division.
    PHASE {
        ACC sum = 0;
        for (int e = thread; e < m * n; e += block_threads) {
            ACC value = finite ? ACC(widen(mine[e])) / scale : ACC(0);
            sum += value * value;
        }
        partial[thread] = sum;
    }
    for (int half = block_threads / 2; half; half /= 2)
        PHASE {
            if (thread < half) partial[thread] += partial[thread + half];
        }
    ACC divisor = safety * sqrt(partial[0]);
    divisor = clamp ? fmax(divisor, epsilon / scale) : divisor + epsilon / scale;
    if (!(divisor > 0)) divisor = 1;

    for (int step = -1; step < steps; ++step) {  // step -1 only normalizes
        const ACC* c = coefficients + (step < 0 ? 0 : step) * terms;
        PHASE {
            UNROLL for (int e = 0; e < TILE * TILE; ++e) MINE(tile)[e] = 0;
        }
        for (int panel = 0; panel < panels && (step < 0 || terms > 1); ++panel) {
            const int start = panel * width, columns = width < n - start ? width : n - start;
            if (step < 0 || panels > 1)
                PHASE {
                    for (int e = thread; e < padded * ld; e += block_threads) {
                        int i = e / ld, j = e % ld;
                        ACC value = 0;
                        if (i < m && j < columns && finite)
                            value = step < 0 ? ACC(widen(mine[i * row_stride + (start + j) * column_stride])) / scale / divisor
                                             : stored[i * n + start + j];
                        x[e] = value;
                        if (step < 0 && panels > 1 && i < m && j < columns) stored[i * n + start + j] = value;
                    }
                }
            if (step >= 0)
                PHASE {
                    if (thread < lower) {
                        int row, column;
                        lower_tile(thread, &row, &column);
                        multiply_tile(x + row * TILE * ld, ld, 1, x + column * TILE * ld, 1, ld, columns, MINE(tile));
                    }
                }
        }
        if (step < 0) continue;
        if (terms > 1)
            PHASE {
                if (thread < lower) {
                    int row, column;
                    lower_tile(thread, &row, &column);
                    store_symmetric(r, padded, row, column, MINE(tile), ACC(1));
                    store_symmetric(p, padded, row, column, MINE(tile), c[terms - 1]);
                }
            }
        for (int term = terms - 2; term > 0; --term) {
            PHASE {
                if (thread < lower) {
                    int row, column;
                    lower_tile(thread, &row, &column);
                    for (int i = 0; i < TILE; ++i)  // c_term I R, before the product P R
                        for (int j = 0; j < TILE; ++j)
                            MINE(tile)[i * TILE + j] = c[term] * r[(row * TILE + i) * padded + column * TILE + j];
                    multiply_tile(p + row * TILE, 1, padded, r + column * TILE, padded, 1, m, MINE(tile));
                }
            }
            PHASE {
                if (thread < lower) {
                    int row, column;
                    lower_tile(thread, &row, &column);
                    store_symmetric(p, padded, row, column, MINE(tile), ACC(1));
                }
            }
        }
        for (int panel = panels - 1; panel >= 0; --panel) {  // the last panel is still in place
            const int start = panel * width, columns = width < n - start ? width : n - start;
            if (panel < panels - 1 || (panels > 1 && terms == 1))
                PHASE {
                    for (int e = thread; e < padded * ld; e += block_threads) {
                        int i = e / ld, j = e % ld;
                        x[e] = i < m && j < columns ? stored[i * n + start + j] : ACC(0);
                    }
                }
            const int groups = block_threads / tiles;  // column tiles at a time
            for (int first = 0; first < columns; first += groups * TILE) {
                PHASE {
                    int row = thread % tiles, column = first / TILE + thread / tiles;
                    if (thread < groups * tiles && column * TILE < columns) {
                        const ACC* from = x + row * TILE * ld + column * TILE;
                        UNROLL for (int i = 0; i < TILE; ++i)
                            UNROLL for (int j = 0; j < TILE; ++j)
                                MINE(tile)[i * TILE + j] = c[0] * from[i * ld + j];
                        if (terms > 1) multiply_tile(p + row * TILE, 1, padded, x + column * TILE, ld, 1, m, MINE(tile));
                    }
                }
                PHASE {
                    int row = thread % tiles, column = first / TILE + thread / tiles;
                    if (thread < groups * tiles && column * TILE < columns)
                        for (int i = 0; i < TILE; ++i)
                            for (int j = 0; j < TILE; ++j)
                                if (column * TILE + j < columns)
                                    x[(row * TILE + i) * ld + column * TILE + j] = MINE(tile)[i * TILE + j];
                }
            }
            if (panels > 1)
                PHASE {
                    for (int e = thread; e < m * columns; e += block_threads)
                        stored[e / columns * n + start + e % columns] = x[e / columns * ld + e % columns];
                }
        }
    }
    PHASE {
        for (int e = thread; e < m * n; e += block_threads) {
            int i = e / n, j = e % n;
            ACC value = panels > 1 ? stored[e] : x[i * ld + j];
            narrow(finite ? value : limits<ACC>::nan(), &result[i * row_stride + j * column_stride]);
        }
    }
}
