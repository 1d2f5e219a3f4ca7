// Steps along signs in one pass: sign descent, Signum and Lion, in place.
//
//     sign     D = G                                  signum   M <- b1 M + (1 - b1) G,   D = M
//     lion     D = b1 M + (1 - b1) G,   M <- b2 M + (1 - b2) G
//     W <- (1 - lr weight_decay) W - lr sign(D),      sign(0) = 0, sign(NaN) = NaN
//
// Shapes: w, m, g hold `count` matrices of `size` entries; lr, b1, b2, decay one number a matrix.
// Cost: reads W, M, G and writes W, M once: 5 numbers an entry (3 without momentum), so the copy bandwidth is the limit;
// a thread takes entries that are block_threads apart, and a warp reads neighbors. Occupancy, by arithmetic: 40 registers
// in float32 let six blocks of 256 threads share an SM, with 18 KiB of loads on their way; the number of the matrix costs
// a division of 32 bits, none for one matrix. Not measured yet: any time on a GPU.
#include "phases.cuh"

#ifndef ACC
#define ACC float
#endif
enum Rule { SIGN, SIGNUM, LION };

KERNEL_FOR(256, sizeof(ACC) == 4 ? 6 : 4)
sign_step(ACC* w, ACC* m, const ACC* g, const ACC* lr, const ACC* b1, const ACC* b2, const ACC* decay, int rule,
          long long size, long long total, int each) {
    const long long start = block_index * block_threads * each;
    PHASE {
        for (int turn = 0; turn < each; ++turn) {
            const long long e = start + (long long)turn * block_threads + thread;
            if (e >= total) continue;
            const long long matrix = size == total ? 0 : total >> 31 ? e / size : (unsigned)e / (unsigned)size;
            const ACC gradient = g[e];
            ACC direction = gradient;
            if (rule != SIGN) {
                const ACC average = m[e], mixed = b1[matrix] * average + (1 - b1[matrix]) * gradient;
                direction = mixed;
                m[e] = rule == SIGNUM ? mixed : b2[matrix] * average + (1 - b2[matrix]) * gradient;
            }
            const ACC sign = direction > 0 ? ACC(1) : direction < 0 ? ACC(-1) : direction;
            w[e] = (1 - lr[matrix] * decay[matrix]) * w[e] - lr[matrix] * sign;
        }
    }
}
