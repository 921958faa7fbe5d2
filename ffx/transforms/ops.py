"""FFCV's module of general operations: types, devices, layouts."""

from .convert import Convert
from .to_device import ToDevice
from .to_tensor import ToTensor
from .to_torch_image import ToTorchImage
from .view import View

__all__ = ["Convert", "ToDevice", "ToTensor", "ToTorchImage", "View"]
