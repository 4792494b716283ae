/* TEST ONLY: one of TensorRT 11's libraries (LIBRARY: 1 nvinfer, 2 nvonnxparser, 3 nvinfer_plugin), whose entry points
 * forward to those of TensorRT-RTX, which builds engines without a GPU. NVIDIA does not support the combination. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

static void* entry(const char* library, const char* name) { return dlsym(dlopen(library, RTLD_NOW), name); }

#if LIBRARY == 1
#define RTX(name) entry("libtensorrt_rtx.so.1", name)
static int32_t version(void) { return ((int32_t(*)(void))RTX("getInferLibVersion"))(); }
static void* make(const char* name, void* a) { return ((void* (*)(void*, int32_t))RTX(name))(a, version()); }
void* createInferBuilder_INTERNAL(void* logger, int32_t v) { return make("createInferBuilder_INTERNAL", logger); }
void* createInferRuntime_INTERNAL(void* logger, int32_t v) { return make("createInferRuntime_INTERNAL", logger); }
void* createInferRefitter_INTERNAL(void* engine, void* logger, int32_t v) { return 0; }
void* getPluginRegistry(void) { return ((void* (*)(void))RTX("getPluginRegistry"))(); }
void* getLogger(void) { return ((void* (*)(void))RTX("getLogger"))(); }
void* getBuilderPluginRegistry(int32_t kind) { return ((void* (*)(int32_t))RTX("getBuilderPluginRegistry"))(kind); }
int32_t getInferLibVersion(void) { return 110400; }
int32_t getInferLibMajorVersion(void) { return 11; }
int32_t getInferLibMinorVersion(void) { return 4; }
int32_t getInferLibPatchVersion(void) { return 0; }
int32_t getInferLibBuildVersion(void) { return 106; }
#elif LIBRARY == 2
#define RTX(name) entry("libtensorrt_onnxparser_rtx.so.1", name)
int32_t getNvOnnxParserVersion(void) { return ((int32_t(*)(void))RTX("getNvOnnxParserVersion"))(); }
static void* make(const char* name, void* a, void* b) {
    return ((void* (*)(void*, void*, int32_t))RTX(name))(a, b, getNvOnnxParserVersion());
}
void* createNvOnnxParser_INTERNAL(void* n, void* l, int32_t v) { return make("createNvOnnxParser_INTERNAL", n, l); }
void* createNvOnnxParserRefitter_INTERNAL(void* r, void* l, int32_t v) {
    return make("createNvOnnxParserRefitter_INTERNAL", r, l);
}
#else
bool initLibNvInferPlugins(void* logger, const char* name) { return true; }
#endif
