// What a GPU can do at best, beside which the device's kernels are measured.

// Grid-stride copy of n float4.
extern "C" __global__ void copy_all(const float4* from, float4* to, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) to[i] = from[i];
}

// Eight chains of n_steps fused multiply-adds in each thread: 16 * n_steps operations.
extern "C" __global__ void multiply_add(float* out, int n_steps) {
    const float by = 0.999f, plus = 0.001f * threadIdx.x;
    float value[8];
    for (int i = 0; i < 8; ++i) value[i] = 0.1f * i;
    for (int step = 0; step < n_steps; ++step)
        for (int i = 0; i < 8; ++i) value[i] = fmaf(value[i], by, plus);
    float sum = 0.0f;
    for (int i = 0; i < 8; ++i) sum += value[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
