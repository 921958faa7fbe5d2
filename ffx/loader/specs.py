"""From what a user passes as `pipelines` to complete specs: decoders, default pipelines, modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..errors import PipelineError
from ..fields.base import Field
from ..pipeline.operation import Operation
from ..pipeline.pipeline_spec import PipelineSpec
from ..transforms import ModuleWrapper, ToTensor

__all__ = ["complete_specs"]

Pipelines = Mapping[str, Sequence[Operation | torch.nn.Module] | PipelineSpec | None]


def complete_specs(pipelines: Pipelines, handlers: Mapping[str, Field | None]) -> dict[str, PipelineSpec]:
    """The specs of everything that the loader returns, in the order in which it returns it.

    Fields come first, in the file's order, then derived pipelines in the user's. A field that is not
    mentioned gets its default decoder and `ToTensor`; one whose pipeline is `None` is left out. The
    user's lists and specs are copied, their operations are not.

    Args:
        pipelines: a sequence of operations, a `PipelineSpec` or `None` by name.
        handlers: the file's fields by name; `None` for a custom field without its class.

    Raises:
        PipelineError: for a value of another kind, a name that is no field, a missing decoder.
    """
    for name, value in pipelines.items():
        _check(name, value, handlers)
    specs: dict[str, PipelineSpec] = {}
    for name in handlers:
        if name not in pipelines:
            specs[name] = PipelineSpec(name)
        elif pipelines[name] is not None:
            specs[name] = _as_spec(name, pipelines[name])
    for name, value in pipelines.items():
        if value is not None and name not in specs:
            specs[name] = _as_spec(name, value)
    for name, spec in specs.items():
        _complete(name, spec, handlers)
    return specs


def _check(name: str, value: object, handlers: Mapping[str, Field | None]) -> None:
    if isinstance(value, PipelineSpec) or (value is None and name in handlers):
        return
    if isinstance(value, Sequence) and not isinstance(value, str):
        if name in handlers:
            return
        raise PipelineError(
            f"pipeline {name!r} is named after no field (the file has {', '.join(map(repr, handlers))}): "
            f"give PipelineSpec(source, transforms=[…]) with the field or operation that it starts from"
        )
    raise PipelineError(
        f"pipeline {name!r}: expected a sequence of operations, a PipelineSpec, or None for a field that is "
        f"not wanted; found {value!r} of type {type(value).__name__}"
    )


def _as_spec(name: str, value) -> PipelineSpec:
    if isinstance(value, PipelineSpec):
        copy = PipelineSpec(value.source, value.decoder, value.transforms)
        copy.default_pipeline = value.default_pipeline
        return copy
    return PipelineSpec(name, transforms=list(value)) if value else PipelineSpec(name)


def _complete(name: str, spec: PipelineSpec, handlers: Mapping[str, Field | None]) -> None:
    if isinstance(spec.source, str) and spec.source in handlers:
        _add_decoder(name, spec, handlers[spec.source])
    elif not isinstance(spec.source, str) and spec.decoder is not None:
        raise PipelineError(f"pipeline {name!r} starts from an operation, so it cannot have a decoder too")
    if spec.default_pipeline:
        spec.transforms.append(ToTensor())
    spec.transforms = [ModuleWrapper(one) if isinstance(one, torch.nn.Module) else one for one in spec.transforms]


def _add_decoder(name: str, spec: PipelineSpec, field: Field | None) -> None:
    if field is None:
        raise PipelineError(
            f"field {spec.source!r} is of a type of its own: pass its class as custom_fields={{{spec.source!r}: …}}, "
            f"or leave the field out with pipelines={{{spec.source!r}: None}}"
        )
    decoder_class = field.get_decoder_class()
    if spec.decoder is not None:
        return
    if spec.transforms and isinstance(spec.transforms[0], decoder_class):
        spec.decoder = spec.transforms.pop(0)
        return
    try:
        spec.decoder = decoder_class()
    except TypeError as error:
        raise PipelineError(
            f"pipeline {name!r} begins with no decoder, and {decoder_class.__name__} needs arguments: {error}"
        ) from error
