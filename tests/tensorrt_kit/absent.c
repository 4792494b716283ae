/* TEST ONLY: what TensorRT 10's Python bindings want to be linked with. Enough to import them; nothing can be made. */
#define ABSENT(name) \
    void* name(void) { return 0; }
ABSENT(createInferBuilder_INTERNAL)
ABSENT(createInferRefitter_INTERNAL)
ABSENT(createInferRuntime_INTERNAL)
ABSENT(createNvOnnxParserRefitter_INTERNAL)
ABSENT(createNvOnnxParser_INTERNAL)
ABSENT(getBuilderPluginRegistry)
ABSENT(getNvOnnxParserVersion)
ABSENT(getPluginRegistry)
ABSENT(initLibNvInferPlugins)
