// Symmetric products of large matrices, one triangle computed and mirrored, fused with the polynomial's sum.
//
//     C = alpha A B^T + beta D + gamma I,   where A B^T is symmetric: B = A (a Gram matrix), or commuting symmetric
//                                           factors A and B = B^T
//
// Shapes: a, b are m x k, c and d are m x m, row-major; a batch of `strips (strips + 1) / 2` blocks a matrix, one block a
// SIDE x SIDE tile of the lower triangle, which also writes the mirrored tile. d = c is allowed; it is read at (i, j) of
// the lower triangle alone and must be symmetric.
// Cost: m (m + SIDE) k / 2 multiply-adds, half of a general product; D is read and C written in the same pass.
// Memory: two SIDE x DEPTH strips of A and B in shared memory, k first, so that a thread loads packs of 16 bytes.
// Occupancy, by arithmetic: 16 x 16 threads with a PATCH x PATCH part each: at PATCH 8 a thread loads 4 packs for 64
// multiply-adds, so that the units and not the shared memory are the limit; 17 KiB and 128 registers let two blocks
// share an SM in float32. One strip is loaded while none is multiplied: other blocks fill that time.
// Not measured yet: any time on a GPU. Nothing in the package chooses it before that. Tensor cores: symmetric_tensor.cu.
#include "phases.cuh"

#ifndef IN
#define IN float
#define ACC float
#define PATCH 4
#endif
#define SIDE (16 * PATCH)
#define DEPTH 16
#define LINE (SIDE + 4)

// Where entry e of a thread's PATCH rows or columns lies: packs of 4, half a side apart, so that no bank is asked twice.
FUNCTION int spread(int t, int e) { return e / 4 * 64 + t * 4 + e % 4; }

KERNEL_FOR(256, sizeof(ACC) == 4 && PATCH == 8 ? 2 : 1)
symmetric_product(const IN* a, const IN* b, const IN* d, IN* c, ACC alpha, ACC beta, ACC gamma, int m, int k, int strips) {
    const int tiles = strips * (strips + 1) / 2;
    const long long matrix = block_index / tiles;
    int row = 0, index = (int)(block_index % tiles);
    while (index > row) index -= ++row;  // rows of 1, 2, 3, ... tiles
    const int column = index;
    const IN *left = a + matrix * m * k, *right = b + matrix * m * k;
    const long long square = matrix * m * m;
    ACC* strip_a = shared_memory<ACC>();
    ACC* strip_b = strip_a + DEPTH * LINE;
    PRIVATE(ACC, patch, PATCH * PATCH);

    PHASE {
        UNROLL for (int e = 0; e < PATCH * PATCH; ++e) MINE(patch)[e] = 0;
    }
    for (int start = 0; start < k; start += DEPTH) {
        PHASE {
            for (int e = thread; e < SIDE * DEPTH; e += block_threads) {
                const int i = e / DEPTH, l = e % DEPTH;
                const int ia = row * SIDE + i, ib = column * SIDE + i;
                const bool deep = start + l < k;
                strip_a[l * LINE + i] = deep && ia < m ? ACC(widen(left[(long long)ia * k + start + l])) : ACC(0);
                strip_b[l * LINE + i] = deep && ib < m ? ACC(widen(right[(long long)ib * k + start + l])) : ACC(0);
            }
        }
        PHASE {
            const ACC* x = strip_a + thread / 16 * 4;
            const ACC* y = strip_b + thread % 16 * 4;
            for (int l = 0; l < DEPTH; ++l) {
                ACC left[PATCH], right[PATCH];
                UNROLL for (int h = 0; h < PATCH; h += 4) {
                    load_pack<4>(x + l * LINE + 16 * h, left + h);
                    load_pack<4>(y + l * LINE + 16 * h, right + h);
                }
                UNROLL for (int i = 0; i < PATCH; ++i)
                    UNROLL for (int j = 0; j < PATCH; ++j) MINE(patch)[i * PATCH + j] += left[i] * right[j];
            }
        }
    }
    PHASE {
        UNROLL for (int p = 0; p < PATCH; ++p)
            UNROLL for (int q = 0; q < PATCH; ++q) {
                const int i = row * SIDE + spread(thread / 16, p), j = column * SIDE + spread(thread % 16, q);
                if (i >= m || j > i) continue;
                ACC value = alpha * MINE(patch)[p * PATCH + q] + (i == j ? gamma : ACC(0));
                if (beta != 0) value += beta * ACC(widen(d[square + (long long)i * m + j]));
                narrow(value, &c[square + (long long)i * m + j]);
                narrow(value, &c[square + (long long)j * m + i]);
            }
    }
}
