// Products of 16 x 16 tiles on tensor cores, a warp each; on a processor the first lane of the warp does it alone.
//
//   Tile                        16 x 16 sums in float32; spread over the lanes in a way that only the hardware knows
//   multiply(tile, a, b, ...)   tile += A B, A 16 x STEP rows at `a`; B^T rows at `b`, or B rows where BY_ROWS
//   store(tile, to, line)       writes the sums
//
// ELEMENT is float16 or bfloat16 (STEP 16), or float rounded to tf32 (STEP 8). Lines are multiples of 32 bytes.
// The instructions are PTX's wmma, which needs no header; the emulation adds in another order than the hardware does.

#ifdef TF32
typedef float ELEMENT;
#define STEP 8
#else
typedef IN ELEMENT;
#define STEP 16
#endif

#ifdef __CUDACC__

struct Tile {
    float of[8];
};
#define LEADS(thread) true

#ifdef TF32
#define FRAGMENT 4
#define SHAPE "m16n16k8"
#define NAME "tf32"
#define TYPES "f32.tf32.tf32.f32"
#elif defined(BFLOAT16)
#define FRAGMENT 4
#define SHAPE "m16n16k16"
#define NAME "bf16"
#define TYPES "f32.bf16.bf16.f32"
#else
#define FRAGMENT 8
#define SHAPE "m16n16k16"
#define NAME "f16"
#define TYPES "f32.f32"
#endif

FUNCTION ELEMENT to_element(float x) {
#ifdef TF32
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
#else
    ELEMENT y;
    narrow(x, &y);
    return y;
#endif
}

#if FRAGMENT == 4
#define LOAD(operand, layout, r, p, line)                                                                  \
    asm volatile("wmma.load." operand ".sync.aligned." layout "." SHAPE "." NAME " {%0,%1,%2,%3}, [%4], %5;" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                         \
                 : "l"(p), "r"(line)                                                                      \
                 : "memory")
#define MULTIPLY(layout, t, a, b)                                                                              \
    asm volatile("wmma.mma.sync.aligned.row." layout "." SHAPE "." TYPES                                       \
                 " {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11}, {%12,%13,%14,%15}, {%0,%1,%2,%3,%4,%5,%6,%7};"    \
                 : "+f"(t[0]), "+f"(t[1]), "+f"(t[2]), "+f"(t[3]), "+f"(t[4]), "+f"(t[5]), "+f"(t[6]), "+f"(t[7]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]))
#else
#define LOAD(operand, layout, r, p, line)                                                          \
    asm volatile("wmma.load." operand ".sync.aligned." layout "." SHAPE "." NAME                   \
                 " {%0,%1,%2,%3,%4,%5,%6,%7}, [%8], %9;"                                           \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]), "=r"(r[4]), "=r"(r[5]), "=r"(r[6]), "=r"(r[7]) \
                 : "l"(p), "r"(line)                                                               \
                 : "memory")
#define MULTIPLY(layout, t, a, b)                                                                              \
    asm volatile("wmma.mma.sync.aligned.row." layout "." SHAPE "." TYPES                                       \
                 " {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11,%12,%13,%14,%15},"                                \
                 " {%16,%17,%18,%19,%20,%21,%22,%23}, {%0,%1,%2,%3,%4,%5,%6,%7};"                              \
                 : "+f"(t[0]), "+f"(t[1]), "+f"(t[2]), "+f"(t[3]), "+f"(t[4]), "+f"(t[5]), "+f"(t[6]), "+f"(t[7]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]),     \
                   "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(b[4]), "r"(b[5]), "r"(b[6]), "r"(b[7]))
#endif

template <bool BY_ROWS>
FUNCTION void multiply(Tile& tile, const ELEMENT* a, int a_line, const ELEMENT* b, int b_line) {
    unsigned left[FRAGMENT], right[FRAGMENT];
    LOAD("a", "row", left, a, a_line);
    if (BY_ROWS) {
        LOAD("b", "row", right, b, b_line);
        MULTIPLY("row", tile.of, left, right);
    } else {
        LOAD("b", "col", right, b, b_line);
        MULTIPLY("col", tile.of, left, right);
    }
}

FUNCTION void clear(Tile& tile) {
    UNROLL for (int i = 0; i < 8; ++i) tile.of[i] = 0;
}

FUNCTION void store(const Tile& tile, float* to, int line) {
    const float* t = tile.of;
    asm volatile("wmma.store.d.sync.aligned.row." SHAPE ".f32 [%0], {%1,%2,%3,%4,%5,%6,%7,%8}, %9;" ::"l"(to), "f"(t[0]),
                 "f"(t[1]), "f"(t[2]), "f"(t[3]), "f"(t[4]), "f"(t[5]), "f"(t[6]), "f"(t[7]), "r"(line)
                 : "memory");
}

#else

struct Tile {
    float of[256];
};
#define LEADS(thread) ((thread) % 32 == 0)

FUNCTION ELEMENT to_element(float x) {
#ifdef TF32
    unsigned bits;
    memcpy(&bits, &x, 4);
    if (x == x) bits += 0x1000;  // to nearest, ties away from zero
    bits &= ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
#else
    ELEMENT y;
    narrow(x, &y);
    return y;
#endif
}

template <bool BY_ROWS>
FUNCTION void multiply(Tile& tile, const ELEMENT* a, int a_line, const ELEMENT* b, int b_line) {
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j)
            for (int k = 0; k < STEP; ++k)
                tile.of[i * 16 + j] += widen(a[i * a_line + k]) * widen(BY_ROWS ? b[k * b_line + j] : b[j * b_line + k]);
}

FUNCTION void clear(Tile& tile) {
    for (float& x : tile.of) x = 0;
}

FUNCTION void store(const Tile& tile, float* to, int line) {
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j) to[i * line + j] = tile.of[i * 16 + j];
}

#endif
