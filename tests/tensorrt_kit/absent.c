/* TEST ONLY: what the Python bindings of TensorRT 8.6 and 10 want to be linked with. Enough to import them; nothing can
 * be made. */
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
/* Of 8.6 alone: the parsers of UFF and Caffe. */
ABSENT(_ZN11nvuffparser15createUffParserEv)
ABSENT(_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi)
ABSENT(_ZN14nvcaffeparser117createCaffeParserEv)
ABSENT(_ZN14nvcaffeparser123shutdownProtobufLibraryEv)
