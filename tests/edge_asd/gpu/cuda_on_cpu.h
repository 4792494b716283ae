// TEST ONLY: enough of CUDA C++ for g++ to compile logmel.cu. A block's threads are fibers that take turns at barriers.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <functional>
#include <vector>

#define __global__
#define __device__ static
#define __shared__ static
#define __launch_bounds__(n)

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline int atomicOr(int* address, int value) {
    const int old = *address;
    *address |= value;
    return old;
}

namespace fibers {
static const size_t kStack = 64 * 1024;
static thread_local std::vector<ucontext_t> contexts;
static thread_local std::vector<char> stacks;
static thread_local std::vector<bool> finished;
static thread_local ucontext_t scheduler;
static thread_local unsigned current;
static thread_local const std::function<void()>* body;

static void enter() {
    (*body)();
    finished[current] = true;
}
}  // namespace fibers

static inline void __syncthreads() { swapcontext(&fibers::contexts[fibers::current], &fibers::scheduler); }

// Runs every block to its end, one after the other. Between two barriers threads run in rising order, or in falling
// order where `backwards`: results that differ show a barrier that is missing.
static inline void run_grid(dim3 grid, dim3 block, bool backwards, const std::function<void()>& kernel) {
    using namespace fibers;
    body = &kernel;
    blockDim = block;
    gridDim = grid;
    const unsigned n = block.x;
    contexts.resize(n);
    stacks.resize(n * kStack);
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
            finished.assign(n, false);
            for (unsigned t = 0; t < n; ++t) {
                getcontext(&contexts[t]);
                contexts[t].uc_stack = {&stacks[t * kStack], 0, kStack};
                contexts[t].uc_link = &scheduler;
                makecontext(&contexts[t], enter, 0);
            }
            for (bool running = true; running;) {
                running = false;
                for (unsigned turn = 0; turn < n; ++turn) {
                    const unsigned t = backwards ? n - 1 - turn : turn;
                    if (finished[t]) continue;
                    current = t;
                    threadIdx = {t, 0, 0};
                    swapcontext(&scheduler, &contexts[t]);
                    running = running || !finished[t];
                }
            }
        }
}
