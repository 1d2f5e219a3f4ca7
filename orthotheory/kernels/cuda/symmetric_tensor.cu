// Symmetric products of large matrices on tensor cores: symmetric_product.cu for 16-bit numbers and for tf32.
//
//     C = alpha A B^T + beta D + gamma I,   A B^T symmetric, one triangle computed and mirrored
//
// Shapes: a, b are m x k, c and d m x m, row-major; one block of 256 threads a 128 x 128 tile of the lower triangle.
// Memory: strips of 128 x 32 numbers of A and B with lines of 48, 24 KiB (48 KiB for tf32), and 8 KiB for eight tiles of
// sums on their way out. Each of 8 warps holds 4 x 2 tiles of 16 x 16 sums, 64 registers a thread: 6 fragments loaded
// serve 8 products.
// Cost: m (m + 128) k / 2 multiply-adds. One strip is loaded while none is multiplied, and sm_90's wgmma and bulk copies
// are not used: a GPU's own library may be faster. Not measured yet: any time on a GPU, and its sums.
#include "phases.cuh"

#ifndef IN
#define IN float
#define TF32
#endif
#include "tensor.cuh"
#define SIDE 128
#define DEPTH 32
#define LINE (DEPTH + 16)

KERNEL_FOR(256, 2)
symmetric_tensor(const IN* a, const IN* b, const IN* d, IN* c, float alpha, float beta, float gamma, int m, int k, int strips) {
    const int tiles = strips * (strips + 1) / 2;
    const long long matrix = block_index / tiles, square = matrix * m * m;
    int row = 0, index = (int)(block_index % tiles);
    while (index > row) index -= ++row;
    const int column = index;
    const IN *left = a + matrix * m * k, *right = b + matrix * m * k;
    ELEMENT* strip_a = shared_memory<ELEMENT>();
    ELEMENT* strip_b = strip_a + SIDE * LINE;
    float* sums = reinterpret_cast<float*>(strip_b + SIDE * LINE);
    PRIVATE(Tile, held, 8);

    PHASE {
        UNROLL for (int t = 0; t < 8; ++t) clear(MINE(held)[t]);
    }
    for (int start = 0; start < k; start += DEPTH) {
        PHASE {
            for (int e = thread; e < SIDE * DEPTH; e += block_threads) {
                const int i = e / DEPTH, l = e % DEPTH, ia = row * SIDE + i, ib = column * SIDE + i;
                const bool deep = start + l < k;
                strip_a[i * LINE + l] = to_element(deep && ia < m ? widen(left[(long long)ia * k + start + l]) : 0.0f);
                strip_b[i * LINE + l] = to_element(deep && ib < m ? widen(right[(long long)ib * k + start + l]) : 0.0f);
            }
        }
        PHASE {
            if (LEADS(thread)) {
                const int warp = thread / 32, down = warp % 2 * 64, over = warp / 2 * 32;
                for (int l = 0; l < DEPTH; l += STEP)
                    UNROLL for (int t = 0; t < 8; ++t)
                        multiply<false>(MINE(held)[t], strip_a + (down + t / 2 * 16) * LINE + l, LINE,
                                        strip_b + (over + t % 2 * 16) * LINE + l, LINE);
            }
        }
    }
    UNROLL for (int t = 0; t < 8; ++t) {
        PHASE {
            if (LEADS(thread)) store(MINE(held)[t], sums + thread / 32 * 256, 16);
        }
        PHASE {
            const int warp = thread / 32, top = row * SIDE + warp % 2 * 64 + t / 2 * 16;
            const int side = column * SIDE + warp / 2 * 32 + t % 2 * 16;
            for (int e = thread % 32; e < 256; e += 32) {
                const int i = top + e / 16, j = side + e % 16;
                if (i >= m || j > i) continue;
                float value = alpha * sums[warp * 256 + e] + (i == j ? gamma : 0.0f);
                if (beta != 0) value += beta * widen(d[square + (long long)i * m + j]);
                narrow(value, &c[square + (long long)i * m + j]);
                narrow(value, &c[square + (long long)j * m + i]);
            }
        }
    }
}
