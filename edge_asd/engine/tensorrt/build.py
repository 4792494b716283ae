"""A serialized ONNX network in, the engine that TensorRT makes of it on this GPU, as bytes, out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_asd.artifacts import CheckStop
from edge_asd.bundle import Precision, TensorSpec
from edge_asd.engine.tensorrt.library import check_driver, make_object
from edge_asd.engine.tensorrt.progress import progress_monitor
from edge_asd.engine.tensorrt.release import released_on_error
from edge_asd.errors import UnavailableError

_OPTIMIZATION_LEVEL = 3
_WORKSPACE_BYTES = 256 * 1024 * 1024
MAX_BATCH = 16

_RECIPE = 2  # rises when this module builds another engine from the same settings
# In an INT8 network, layers between quantized ones that may compute in half precision. Only TensorRT 8.6 has to be
# told: from 10 on the types that stand in the ONNX model hold.
_HALF_LAYERS = (
    "ACTIVATION",
    "CONCATENATION",
    "CONVOLUTION",
    "ELEMENTWISE",
    "GATHER",
    "PARAMETRIC_RELU",
    "POOLING",
    "SHUFFLE",
)
# Layers without a type of computation of their own.
_UNTYPED_LAYERS = ("CAST", "CONSTANT", "DEQUANTIZE", "IDENTITY", "QUANTIZE", "SHAPE")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What the builder is told, besides the network.

    batch_sizes: rising, from 1; the engine runs these exactly.
    """

    precision: Precision
    batch_sizes: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"batches {'/'.join(map(str, self.batch_sizes))}, level {_OPTIMIZATION_LEVEL}, workspace "
            f"{_WORKSPACE_BYTES}, no TF32, recipe {_RECIPE}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """plan: the serialized engine. timings: TensorRT's timing cache, which makes the next build shorter."""

    plan: bytes
    timings: bytes


def batch_sizes(n_machines: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to all machines in one batch, at most MAX_BATCH: a batch is filled up to the next of them."""
    sizes = [1]
    while sizes[-1] < min(n_machines, MAX_BATCH):
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


@released_on_error()
def build_engine(
    trt: Any,
    logger: Any,
    model: bytes,
    inputs: tuple[TensorSpec, ...],
    settings: BuildSettings,
    *,
    timings: bytes | None,
    say: Callable[[str], None],
    check_stop: CheckStop = lambda: None,
) -> Built:
    """Build; takes minutes on a small board.

    Args:
        trt: the tensorrt module.
        logger: for its messages, of `make_logger`.
        model: serialized ONNX, whose types are the precisions that the engine computes in.
        inputs: shapes of the network's inputs.
        settings: batch sizes and precision.
        timings: an earlier build's, where there was one.
        say: is told how far it is.
        check_stop: is called at each step; not on TensorRT 8.6, which builds to the end.

    Raises:
        UnavailableError: TensorRT cannot parse or build the network; the message holds its reason.
        KeyboardInterrupt: the user has interrupted the build; likewise what `check_stop` raises.
    """
    builder = make_object(trt, trt.Builder)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise UnavailableError(
            f"TensorRT {trt.__version__} cannot read the {settings.precision} network ({errors or 'no reason given'}); "
            "expected one that python -m export.bundle made; update JetPack, or choose another precision or engine"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.builder_optimization_level = _OPTIMIZATION_LEVEL
    config.clear_flag(trt.BuilderFlag.TF32)  # it would cost LayerNorm's and the waveform's layers their float32
    if _is_weakly_typed(trt):
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)  # later versions always do
        _set_precision(trt, config, network, settings.precision)
    _add_profiles(builder, config, network, inputs, settings.batch_sizes)
    cache = config.create_timing_cache(timings or b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = progress_monitor(trt, say, check_stop, logger.callbacks)
    say(f"building the {settings.precision} engine of {network.num_layers} layers with TensorRT {trt.__version__}: "
        "this takes minutes on a small board")  # fmt: skip
    plan = builder.build_serialized_network(network, config)
    logger.callbacks.raise_again()
    if plan is None:
        check_driver(trt)
        raise UnavailableError(
            f"TensorRT {trt.__version__} cannot build the {settings.precision} network; its reason stands in the log "
            "above; expected enough free memory on the GPU; end other programs, or choose another precision or engine"
        )
    return Built(plan=bytes(plan), timings=bytes(cache.serialize()))


def _is_weakly_typed(trt: Any) -> bool:
    """TensorRT 8.6: precisions are flags of the builder."""
    return not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _network_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.EXPLICIT_BATCH if _is_weakly_typed(trt) else flags.STRONGLY_TYPED)


def _set_precision(trt: Any, config: Any, network: Any, precision: Precision) -> None:
    if precision == "fp32":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    half, untyped = (
        {getattr(trt.LayerType, name) for name in names if hasattr(trt.LayerType, name)}
        for names in (_HALF_LAYERS, _UNTYPED_LAYERS)
    )
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    # A half-precision model has its types; what is float32 in it stays so.
    may_be_half = _amid_quantized(trt, layers) if precision == "int8" else set()
    for index, layer in enumerate(layers):
        if layer.type in untyped or (layer.type in half and index in may_be_half):
            continue
        if layer.get_output(0).dtype == trt.float32:
            layer.precision = trt.float32


def _amid_quantized(trt: Any, layers: Sequence[Any]) -> set[int]:
    """Indices of the layers that quantized values lead to, and that lead to a quantized layer or take its values.

    All others are the first layers behind the inputs, and the head. Layers stand in the order in which they compute.
    """
    inputs = [_names(layer.get_input(place) for place in range(layer.num_inputs)) for layer in layers]
    outputs = [_names(layer.get_output(place) for place in range(layer.num_outputs)) for layer in layers]
    dequantized: set[str] = set()
    after: set[str] = set()
    for layer, taken, made in zip(layers, inputs, outputs, strict=True):
        if layer.type == trt.LayerType.DEQUANTIZE:
            dequantized |= made
        if layer.type == trt.LayerType.DEQUANTIZE or taken & after:
            after |= made
    before: set[str] = set()
    for layer, taken, made in zip(reversed(layers), reversed(inputs), reversed(outputs), strict=True):
        if layer.type == trt.LayerType.QUANTIZE or made & before:
            before |= taken
    return {
        index
        for index, (taken, made) in enumerate(zip(inputs, outputs, strict=True))
        if taken & dequantized or (taken & after and made & before)
    }


def _names(tensors: Iterable[Any]) -> set[str]:
    """An input that is optional may be None."""
    return {tensor.name for tensor in tensors if tensor is not None}


def _add_profiles(
    builder: Any, config: Any, network: Any, inputs: tuple[TensorSpec, ...], sizes: tuple[int, ...]
) -> None:
    """One profile for a batch of one, the usual case, and one for all larger batches."""
    shapes = {spec.name: spec.shape[1:] for spec in inputs}
    ranges = [(1, 1, 1)] + ([(sizes[1], sizes[-1], sizes[-1])] if len(sizes) > 1 else [])
    for lowest, best, highest in ranges:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            name = network.get_input(index).name
            profile.set_shape(name, *((size, *shapes[name]) for size in (lowest, best, highest)))
        config.add_optimization_profile(profile)
