// TEST ONLY: a libcuda whose device is the CPU. It keeps the order of work as adversarially as CUDA allows: nothing that
// was put on a stream happens before the stream is synchronised, a capture does nothing, a graph replays what was
// captured. Every call is noted; calls can be told to fail.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "cuda_on_cpu.h"
#include LOGMEL_CU
#include CEILINGS_CU

using Work = std::function<void()>;
struct Stream {
    std::vector<Work> queue;
    bool capturing = false;
    std::vector<Work> captured;
};
using Graph = std::vector<Work>;

static std::string calls;
struct Failure { int code, times; };
static std::map<std::string, Failure> failures;
static std::map<uintptr_t, size_t> allocations;
static size_t free_bytes = size_t(8) << 30;
static int driver_version = 12060;
static int devices = 1;
static int multiprocessors = 8;
static size_t total_bytes = size_t(8) << 30;
static bool backwards = false;
static int retained = 0;
static thread_local std::vector<void*> contexts;
static const char kRings = 0, kLogMel = 0, kCopy = 0, kMultiplyAdd = 0;

#define CALL(name)                                    \
    calls += #name "\n";                              \
    if (auto found = failures.find(#name); found != failures.end()) { \
        const int code = found->second.code;          \
        if (!--found->second.times) failures.erase(found); \
        return code;                                  \
    }

// Calls that need a context on the calling thread.
#define CONTEXT_CALL(name)                  \
    CALL(name)                              \
    if (contexts.empty()) return 201;  // CUDA_ERROR_INVALID_CONTEXT

static void put(Stream* stream, Work work) { (stream->capturing ? stream->captured : stream->queue).push_back(work); }

static int allocate(uintptr_t* address, size_t bytes) {
    if (bytes > free_bytes) return 2;  // CUDA_ERROR_OUT_OF_MEMORY
    free_bytes -= bytes;
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(memory, 0xff, bytes);  // NaN: what is read before it is written shows
    *address = reinterpret_cast<uintptr_t>(memory);
    allocations[*address] = bytes;
    return 0;
}

// Addresses of a kernel's arguments that came in one buffer, each aligned to its size.
static std::vector<void*> unpack(void** extra, const std::vector<size_t>& sizes) {
    std::vector<void*> addresses;
    if (!extra) return addresses;
    size_t at = 0;  // extra: 1, the buffer, 2, the address of its size, 0
    for (const size_t size : sizes) {
        at = (at + size - 1) / size * size;
        addresses.push_back(static_cast<char*>(extra[1]) + at);
        at += size;
    }
    if (at != *static_cast<size_t*>(extra[3])) std::abort();
    return addresses;
}

static int release(uintptr_t address) {
    auto found = allocations.find(address);
    if (found == allocations.end()) return 1;  // CUDA_ERROR_INVALID_VALUE
    free_bytes += found->second;
    allocations.erase(found);
    std::free(reinterpret_cast<void*>(address));
    return 0;
}

extern "C" {
// What the tests ask for and set.
const char* fake_calls() { return calls.c_str(); }
void fake_forget_calls() { calls.clear(); }
void fake_fail(const char* name, int code, int times) { failures[name] = {code, times}; }
void fake_free_bytes(size_t bytes) { free_bytes = bytes; }
void fake_driver_version(int version) { driver_version = version; }
void fake_devices(int count) { devices = count; }
void fake_module(int sms, size_t bytes) { multiprocessors = sms; total_bytes = bytes; }
void fake_backwards(int yes) { backwards = yes; }
int fake_retained() { return retained; }
int fake_contexts() { return int(contexts.size()); }
size_t fake_allocations() { return allocations.size(); }
// Any other work for the stream, as TensorRT puts there.
void fake_put(Stream* stream, void (*work)(int), int argument) {
    put(stream, [=] { work(argument); });
}

int cuInit(unsigned) { CALL(cuInit) return devices ? 0 : 100; }  // CUDA_ERROR_NO_DEVICE
int cuDriverGetVersion(int* version) { CALL(cuDriverGetVersion) *version = driver_version; return 0; }
int cuDeviceGet(int* device, int ordinal) { CALL(cuDeviceGet) *device = ordinal; return ordinal < devices ? 0 : 101; }
int cuDeviceGetCount(int* count) { CALL(cuDeviceGetCount) *count = devices; return 0; }
int cuDeviceGetName(char* name, int size, int) { CALL(cuDeviceGetName) std::snprintf(name, size, "Fake Orin"); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    CALL(cuDeviceGetAttribute)
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? multiprocessors : 2 << 20;
    return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { CALL(cuDeviceTotalMem_v2) *bytes = total_bytes; return 0; }
int cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { CALL(cuDevicePrimaryCtxSetFlags_v2) return 0; }
int cuDevicePrimaryCtxRetain(void** context, int) {
    CALL(cuDevicePrimaryCtxRetain)
    *context = &devices;
    ++retained;
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
    CALL(cuDevicePrimaryCtxRelease_v2)
    if (!retained) return 201;
    --retained;
    return 0;
}
int cuCtxPushCurrent_v2(void* context) {
    CALL(cuCtxPushCurrent_v2)
    if (context != &devices || !retained) return 201;  // CUDA_ERROR_INVALID_CONTEXT
    contexts.push_back(context);
    return 0;
}
int cuCtxPopCurrent_v2(void** context) {
    CALL(cuCtxPopCurrent_v2)
    if (contexts.empty()) return 201;
    *context = contexts.back();
    contexts.pop_back();
    return 0;
}
int cuMemGetInfo_v2(size_t* free, size_t* total) {
    CONTEXT_CALL(cuMemGetInfo_v2)
    *free = free_bytes;
    *total = total_bytes;
    return 0;
}
int cuMemAlloc_v2(uintptr_t* address, size_t bytes) { CONTEXT_CALL(cuMemAlloc_v2) return allocate(address, bytes); }
int cuMemFree_v2(uintptr_t address) { CONTEXT_CALL(cuMemFree_v2) return release(address); }
int cuMemHostAlloc(uintptr_t* address, size_t bytes, unsigned) { CONTEXT_CALL(cuMemHostAlloc) return allocate(address, bytes); }
int cuMemFreeHost(uintptr_t address) { CONTEXT_CALL(cuMemFreeHost) return release(address); }
int cuMemsetD8Async(uintptr_t address, unsigned char value, size_t bytes, Stream* stream) {
    CONTEXT_CALL(cuMemsetD8Async)
    put(stream, [=] { std::memset(reinterpret_cast<void*>(address), value, bytes); });
    return 0;
}
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, Stream* stream) {
    CONTEXT_CALL(cuMemcpyHtoDAsync_v2)
    put(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), from, bytes); });
    return 0;
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, Stream* stream) {
    CONTEXT_CALL(cuMemcpyDtoHAsync_v2)
    put(stream, [=] { std::memcpy(to, reinterpret_cast<void*>(from), bytes); });
    return 0;
}
int cuStreamCreate(Stream** stream, unsigned) { CONTEXT_CALL(cuStreamCreate) *stream = new Stream; return 0; }
int cuStreamDestroy_v2(Stream* stream) { CONTEXT_CALL(cuStreamDestroy_v2) delete stream; return 0; }
int cuStreamSynchronize(Stream* stream) {
    CONTEXT_CALL(cuStreamSynchronize)
    if (stream->capturing) return 900;  // CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    for (auto& work : stream->queue) work();
    stream->queue.clear();
    return 0;
}
int cuStreamBeginCapture_v2(Stream* stream, int) {
    CONTEXT_CALL(cuStreamBeginCapture_v2)
    stream->capturing = true;
    stream->captured.clear();
    return 0;
}
int cuStreamEndCapture(Stream* stream, Graph** graph) {
    CONTEXT_CALL(cuStreamEndCapture)
    stream->capturing = false;
    *graph = new Graph(stream->captured);
    return 0;
}
int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    CONTEXT_CALL(cuGraphInstantiateWithFlags)
    *executable = new Graph(*graph);
    return 0;
}
int cuGraphDestroy(Graph* graph) { CALL(cuGraphDestroy) delete graph; return 0; }
int cuGraphExecDestroy(Graph* graph) { CONTEXT_CALL(cuGraphExecDestroy) delete graph; return 0; }
int cuGraphLaunch(Graph* graph, Stream* stream) {
    CONTEXT_CALL(cuGraphLaunch)
    stream->queue.insert(stream->queue.end(), graph->begin(), graph->end());
    return 0;
}
int cuModuleLoadData(void** module, const void*) { CONTEXT_CALL(cuModuleLoadData) *module = &devices; return 0; }
int cuModuleLoadDataEx(void** module, const void*, unsigned, void*, void*) {
    CONTEXT_CALL(cuModuleLoadDataEx)
    *module = &devices;
    return 0;
}
int cuFuncSetBlockShape(const void*, int, int, int) { CONTEXT_CALL(cuFuncSetBlockShape) return 0; }
int cuModuleUnload(void*) { CONTEXT_CALL(cuModuleUnload) return 0; }
int cuModuleGetFunction(const void** function, void*, const char* name) {
    CONTEXT_CALL(cuModuleGetFunction)
    *function = nullptr;
    if (!std::strcmp(name, "advance_rings")) *function = &kRings;
    if (!std::strcmp(name, "log_mel_db")) *function = &kLogMel;
    if (!std::strcmp(name, "copy_all")) *function = &kCopy;
    if (!std::strcmp(name, "multiply_add")) *function = &kMultiplyAdd;
    return *function ? 0 : 500;  // CUDA_ERROR_NOT_FOUND
}
int cuLaunchKernel(const void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned, Stream* stream, void** arguments, void** extra) {
    CONTEXT_CALL(cuLaunchKernel)
    const dim3 grid{gx, gy, gz}, block{bx, by, bz};
    const auto unpacked = function == &kRings ? unpack(extra, {8, 8, 4, 8, 8, 8}) : unpack(extra, std::vector<size_t>(10, 8));
    void* const* const p = arguments ? arguments : unpacked.data();
    if (function == &kRings) {
        auto rows = *(const Row**)p[0];
        auto fresh = *(const float**)p[1];
        auto max_fresh = *(int*)p[2];
        auto rings = *(float**)p[3];
        auto wave = *(float**)p[4];
        auto not_finite = *(int**)p[5];
        put(stream, [=] {
            run_grid(grid, block, backwards, [=] { advance_rings(rows, fresh, max_fresh, rings, wave, not_finite); });
        });
    } else if (function == &kCopy) {
        auto from = *(const float4**)p[0];
        auto to = *(float4**)p[1];
        auto n = *(int*)p[2];
        put(stream, [=] { run_grid(grid, block, backwards, [=] { copy_all(from, to, n); }); });
    } else if (function == &kMultiplyAdd) {
        auto out = *(float**)p[0];
        auto n_steps = *(int*)p[1];
        put(stream, [=] { run_grid(grid, block, backwards, [=] { multiply_add(out, n_steps); }); });
    } else {
        auto rows = *(const Row**)p[0];
        auto wave = *(const float**)p[1], taper = *(const float**)p[2];
        auto twiddle = *(const float2**)p[3];
        auto exact_twiddle = *(const Exact**)p[4];
        auto mel_bin = *(const int**)p[5], mel_begin = *(const int**)p[6];
        auto mel_weight = *(const float**)p[7];
        auto log_mel = *(float**)p[8];
        auto not_finite = *(int**)p[9];
        put(stream, [=] {
            run_grid(grid, block, backwards, [=] {
                log_mel_db(rows, wave, taper, twiddle, exact_twiddle, mel_bin, mel_begin, mel_weight, log_mel,
                           not_finite);
            });
        });
    }
    return 0;
}
int cuGetErrorName(int code, const char** name) {
    static std::map<int, const char*> names{{1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"},
        {100, "CUDA_ERROR_NO_DEVICE"}, {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"}, {500, "CUDA_ERROR_NOT_FOUND"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}};
    auto found = names.find(code);
    if (found == names.end()) return 1;
    *name = found->second;
    return 0;
}
int cuGetErrorString(int, const char** text) { *text = "as the fake was told"; return 0; }
}
