// One source for two compilers: NVRTC for a GPU, g++ for a processor without one.
//
// A kernel is a sequence of phases. Inside a phase no thread reads what another writes, so their order is free: on a
// GPU they run at once and a barrier ends the phase, on a processor they run one after the other. Loops around phases
// have bounds that are equal for all threads of a block.
//
//   KERNEL name(...)            an entry point, launched with blocks of `block_threads` threads
//   KERNEL_FOR(threads, blocks) the same, with registers for so many blocks of at most so many threads on an SM
//   PHASE { ... thread ... }    what each thread does up to the next barrier; no break, continue or return
//   BARRIER                     between phases, where what they read outside of a phase is overwritten next
//   PRIVATE(type, name, n)      n registers of each thread that live across phases; MINE(name) inside a phase
//   shared_memory<T>()          the block's memory, as many bytes as the launch asked for
//   block_index                 the number of this block
#pragma once

#ifdef __CUDACC__

#define KERNEL extern "C" __global__ void
#define KERNEL_FOR(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define FUNCTION __device__ __forceinline__
#define FUNCTION_OF_CLASS static __device__ __forceinline__
#define PHASE for (int thread = threadIdx.x, once = 1; once; once = thread & 0, __syncthreads())
#define BARRIER __syncthreads()
#define PRIVATE(type, name, count) type name[count]
#define MINE(name) name
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define block_index ((long long)blockIdx.x)
#define block_threads ((int)blockDim.x)

FUNCTION float float_of_bits(unsigned bits) { return __uint_as_float(bits); }

template <class T>
FUNCTION T* shared_memory() {
    extern __shared__ __align__(32) double memory[];  // packs of 16 bytes and fragments of 32 start at multiples
    return reinterpret_cast<T*>(memory);
}

#else

#include <cmath>
#include <cstring>
#include <vector>
using std::abs, std::cosh, std::fmax, std::isfinite, std::ilogb, std::ldexp, std::sqrt;

#define KERNEL extern "C" void
#define KERNEL_FOR(threads, blocks) extern "C" void
#define FUNCTION static inline
#define FUNCTION_OF_CLASS static inline
#define PHASE for (int turn = 0, thread = first_thread(); turn < block_threads; ++turn, thread = next_thread(thread))
#define BARRIER
#define PRIVATE(type, name, count) static thread_local type name[1024][count]
#define MINE(name) name[thread]
#define UNROLL
#define ROLLED

static thread_local long long block_index;
static thread_local int block_threads, backwards;
static thread_local std::vector<double> block_memory;

FUNCTION int first_thread() { return backwards ? block_threads - 1 : 0; }
FUNCTION int next_thread(int thread) { return backwards ? thread - 1 : thread + 1; }

// Before each block the memory is filled with NaN: what a kernel reads before it writes shows in the result.
extern "C" void prepare_block(long long index, int threads, int bytes, int reversed) {
    block_index = index, block_threads = threads, backwards = reversed;
    block_memory.resize((bytes + 7) / 8);
    memset(static_cast<void*>(block_memory.data()), 0xff, block_memory.size() * 8);  // NaN in every floating-point type
}

FUNCTION float float_of_bits(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

template <class T>
FUNCTION T* shared_memory() {
    return reinterpret_cast<T*>(block_memory.data());
}

#endif

// 16-bit numbers are stored, never computed with.
#ifdef __CUDACC__
#ifdef WITH_HALF
#include <cuda_fp16.h>
#include <cuda_bf16.h>
FUNCTION float widen(__half x) { return __half2float(x); }
FUNCTION float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
FUNCTION void narrow(float x, __half* y) { *y = __float2half_rn(x); }
FUNCTION void narrow(float x, __nv_bfloat16* y) { *y = __float2bfloat16_rn(x); }
typedef __half float16;
typedef __nv_bfloat16 bfloat16;
#endif
#else
#ifdef WITH_HALF
typedef _Float16 float16;
struct bfloat16 {
    unsigned short bits;
};
FUNCTION float widen(float16 x) { return x; }
FUNCTION void narrow(float x, float16* y) { *y = (float16)x; }
FUNCTION float widen(bfloat16 x) {
    return float_of_bits((unsigned)x.bits << 16);
}
FUNCTION void narrow(float x, bfloat16* y) {
    unsigned int word;
    memcpy(&word, &x, 4);
    y->bits = x != x ? 0x7fff : (unsigned short)((word + 0x7fff + ((word >> 16) & 1)) >> 16);  // to nearest, ties to even
}
#endif
#endif
FUNCTION float widen(float x) { return x; }
FUNCTION double widen(double x) { return x; }
FUNCTION void narrow(float x, float* y) { *y = x; }
FUNCTION void narrow(double x, double* y) { *y = x; }

template <class T>
struct limits;
template <>
struct limits<float> {
    static constexpr int lowest = -126, highest = 126;  // exponents of the smallest normal number and of max / 2
    static constexpr float eps = 1.1920929e-07f;
    FUNCTION_OF_CLASS float infinity() { return float_of_bits(0x7f800000); }
    FUNCTION_OF_CLASS float nan() { return float_of_bits(0x7fc00000); }
};
template <>
struct limits<double> {
    static constexpr int lowest = -1022, highest = 1022;
    static constexpr double eps = 2.220446049250313e-16;
    FUNCTION_OF_CLASS double infinity() { return float_of_bits(0x7f800000); }
    FUNCTION_OF_CLASS double nan() { return float_of_bits(0x7fc00000); }
};

// Neighbors that are loaded at once, aligned to their size or to 16 bytes.
template <class T, int COUNT>
struct alignas(COUNT * sizeof(T) < 16 ? COUNT * sizeof(T) : 16) Pack {
    T of[COUNT];
};
template <int COUNT, class T>
FUNCTION void load_pack(const T* from, T* to) {
    const Pack<T, COUNT> pack = *reinterpret_cast<const Pack<T, COUNT>*>(from);
    UNROLL for (int i = 0; i < COUNT; ++i) to[i] = pack.of[i];
}

// The power of two next to the largest magnitude `peak`, as arrays.magnitude takes it: 1 for zero.
template <class T>
FUNCTION T power_of_two(T peak) {
    if (!(peak > 0) || !isfinite(peak)) return 1;
    int e = ilogb(peak);
    e = e < limits<T>::lowest ? limits<T>::lowest : e > limits<T>::highest ? limits<T>::highest : e;
    return ldexp(T(1), e);
}
