// Batched small polar factors: normalization and all polynomial steps of one matrix in one block.
//
//     X <- G / (safety |G|_F + epsilon);   R = X X^T,  P = c_q R,  P <- (P + c_i I) R ...,  X <- c_0 X + P X
//
// Shapes: G is m x n with m <= n (a tall matrix comes with its strides exchanged), m <= 16 TILE; one block a matrix.
// Memory: two symmetric m x m matrices and a panel of `width` columns of X in shared memory. Where n <= width, X
// never leaves it; otherwise panels travel through `work`, which is as large as G and stays in the L2 cache.
// Cost: for terms t a step, m^2 n + m^2 n / 2 multiply-adds for X and (t - 2) m^3 / 2 for P: symmetric products compute
// one triangle. A thread owns a TILE x TILE tile of a product in registers: 2 TILE numbers loaded, in packs of 16 bytes,
// serve TILE^2 multiply-adds. X X^T reads packs along k, from rows that lie `tiles` apart, so that with an odd number of
// packs in a line eight threads touch all banks once; products with the symmetric P read packs along its rows.
// Occupancy, by arithmetic: float32 64 x 64 with TILE 4 takes 50 KiB and 256 threads of 64 registers, four blocks an SM
// of 227 KiB; 32 x 32 takes 14 KiB and 64 threads. In the triangular products 136 of 256 threads work; the idle warps
// leave the units to the other blocks. Not measured yet: any time on a GPU, and which TILE is best.
#include "phases.cuh"

#ifndef IN
#define IN float
#define ACC float
#define TILE 4
#endif
#define PACK (TILE < 4 ? TILE : 4)

// Where entry e of tile t lies, of `tiles` along a side: in packs of neighbors.
FUNCTION int packed(int t, int e, int tiles) { return e / PACK * PACK * tiles + t * PACK + e % PACK; }

// acc[i, j] += sum over k of a[i, k] b[j, k], rows t, t + tiles, ... of both; k up to `length` in packs of 4
FUNCTION void multiply_rows(const ACC* a, const ACC* b, int ld, int tiles, int length, ACC* acc) {
    for (int k = 0; k < length; k += 4) {
        ACC left[TILE][4], right[4];
        UNROLL for (int i = 0; i < TILE; ++i) load_pack<4>(a + i * tiles * ld + k, left[i]);
        UNROLL for (int j = 0; j < TILE; ++j) {
            load_pack<4>(b + j * tiles * ld + k, right);
            UNROLL for (int i = 0; i < TILE; ++i)
                UNROLL for (int l = 0; l < 4; ++l) acc[i * TILE + j] += left[i][l] * right[l];
        }
    }
}

// acc[i, j] += sum over k of p[k, i] x[k, j], packs of i and j that lie `across` and `along` apart
FUNCTION void multiply_columns(const ACC* p, int p_line, int across, const ACC* x, int x_line, int along, int length,
                               ACC* acc) {
    for (int k = 0; k < length; ++k) {
        ACC left[TILE], right[TILE];
        UNROLL for (int h = 0; h < TILE / PACK; ++h) {
            load_pack<PACK>(p + k * p_line + h * across, left + h * PACK);
            load_pack<PACK>(x + k * x_line + h * along, right + h * PACK);
        }
        UNROLL for (int i = 0; i < TILE; ++i)
            UNROLL for (int j = 0; j < TILE; ++j) acc[i * TILE + j] += left[i] * right[j];
    }
}

FUNCTION void store_both(ACC* r, int line, int i, int j, ACC value) { r[i * line + j] = r[j * line + i] = value; }

KERNEL_FOR(256, sizeof(ACC) == 8 || TILE == 8 ? 1 : 4)
small_polar(const IN* g, IN* out, ACC* work, const ACC* coefficients, int steps, int terms, int m, int n, int row_stride,
            int column_stride, int width, ACC safety, ACC epsilon, int clamp) {
    const int tiles = (m + TILE - 1) / TILE, padded = tiles * TILE, lower = tiles * (tiles + 1) / 2;
    const int ld = ((width + 3) / 4 | 1) * 4, panels = (n + width - 1) / width;
    const IN* mine = g + block_index * m * n;
    IN* result = out + block_index * m * n;
    ACC* stored = work + (panels > 1 ? block_index * m * n : 0);
    ACC* r = shared_memory<ACC>();
    ACC* p = r + padded * padded;
    ACC* x = p + padded * padded;
    ACC* partial = x + padded * ld;
    PRIVATE(ACC, tile, TILE * TILE);
    PRIVATE(int, place, 2);  // of this thread's tile in the lower triangle

    // The largest magnitude; a number that is not finite shows as infinity.
    PHASE {
        ACC peak = 0;
        for (int e = thread; e < m * n; e += block_threads) {
            const ACC size = abs(ACC(widen(mine[e])));
            peak = isfinite(size) ? fmax(peak, size) : limits<ACC>::infinity();
        }
        partial[thread] = peak;
        int row = 0, index = thread;
        while (index > row) index -= ++row;
        MINE(place)[0] = row, MINE(place)[1] = index;
    }
    for (int half = block_threads / 2; half; half /= 2)
        PHASE {
            if (thread < half) partial[thread] = fmax(partial[thread], partial[thread + half]);
        }
    const ACC peak = partial[0], scale = power_of_two(peak);
    const bool finite = isfinite(peak);
    BARRIER;
    // Its Frobenius norm after that division.
    PHASE {
        ACC sum = 0;
        for (int e = thread; e < m * n; e += block_threads) {
            const ACC value = finite ? ACC(widen(mine[e])) / scale : ACC(0);
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
                        const int i = e / ld, j = e % ld;
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
                    if (thread < lower)
                        multiply_rows(x + MINE(place)[0] * ld, x + MINE(place)[1] * ld, ld, tiles, columns, MINE(tile));
                }
        }
        if (step < 0) continue;
        if (terms > 1)
            PHASE {
                if (thread < lower)
                    for (int i = 0; i < TILE; ++i)
                        for (int j = 0; j < TILE; ++j) {
                            const int row = MINE(place)[0] + i * tiles, column = MINE(place)[1] + j * tiles;
                            if (MINE(place)[0] == MINE(place)[1] && j > i) continue;  // one half decides both
                            store_both(r, padded, row, column, MINE(tile)[i * TILE + j]);
                            store_both(p, padded, row, column, c[terms - 1] * MINE(tile)[i * TILE + j]);
                        }
            }
        for (int term = terms - 2; term > 0; --term) {
            PHASE {
                if (thread < lower) {
                    const int across = MINE(place)[0], along = MINE(place)[1];
                    UNROLL for (int i = 0; i < TILE; ++i)  // c_term I R, before the product P R
                        UNROLL for (int j = 0; j < TILE; ++j)
                            MINE(tile)[i * TILE + j] =
                                c[term] * r[packed(across, i, tiles) * padded + packed(along, j, tiles)];
                    multiply_columns(p + across * PACK, padded, PACK * tiles, r + along * PACK, padded, PACK * tiles, m,
                                     MINE(tile));
                }
            }
            PHASE {
                if (thread < lower)
                    for (int i = 0; i < TILE; ++i)
                        for (int j = 0; j < TILE; ++j) {
                            const int row = packed(MINE(place)[0], i, tiles), column = packed(MINE(place)[1], j, tiles);
                            if (MINE(place)[0] == MINE(place)[1] && j > i) continue;
                            store_both(p, padded, row, column, MINE(tile)[i * TILE + j]);
                        }
            }
        }
        for (int panel = panels - 1; panel >= 0; --panel) {  // the last panel is still in place
            const int start = panel * width, columns = width < n - start ? width : n - start;
            if (panel < panels - 1 || (panels > 1 && terms == 1))
                PHASE {
                    for (int e = thread; e < padded * ld; e += block_threads) {
                        const int i = e / ld, j = e % ld;
                        x[e] = i < m && j < columns ? stored[i * n + start + j] : ACC(0);
                    }
                }
            const int groups = block_threads / tiles;  // column tiles at a time
            for (int first = 0; first < columns; first += groups * TILE) {
                PHASE {
                    const int across = thread % tiles, along = thread / tiles;
                    const int column = first + along * PACK;
                    if (along < groups && column < columns) {
                        const int far = column + PACK * groups < columns ? PACK * groups : 0;  // a pack past the end is not used
                        UNROLL for (int i = 0; i < TILE; ++i)
                            UNROLL for (int j = 0; j < TILE; ++j)
                                MINE(tile)[i * TILE + j] =
                                    c[0] * x[packed(across, i, tiles) * ld + column + j / PACK * far + j % PACK];
                        if (terms > 1)
                            multiply_columns(p + across * PACK, padded, PACK * tiles, x + column, ld, far, m, MINE(tile));
                    }
                }
                PHASE {
                    const int across = thread % tiles, along = thread / tiles;
                    if (along < groups)
                        UNROLL for (int i = 0; i < TILE; ++i)
                            UNROLL for (int j = 0; j < TILE; ++j) {
                                const int column = first + packed(along, j, groups);
                                if (column < columns)
                                    x[packed(across, i, tiles) * ld + column] = MINE(tile)[i * TILE + j];
                            }
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
            const int i = e / n, j = e % n;
            const ACC value = panels > 1 ? stored[e] : x[i * ld + j];
            narrow(finite ? value : limits<ACC>::nan(), &result[i * row_stride + j * column_stride]);
        }
    }
}
