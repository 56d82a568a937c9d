"""Weights files of torch before 1.6, read without torch."""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from futu.errors import ModelError

Array = npt.NDArray[Any]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGE_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int


class _PendingTensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any
) -> _PendingTensor:
    return _PendingTensor(storage, offset, tuple(shape), tuple(strides))


class _TensorUnpickler(pickle.Unpickler):
    """Accepts the four names that a state dict of plain tensors needs and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return name
        raise ModelError(
            f"The weights file asks for {module}.{name}, which a file of tensors does not need: "
            "it is not the published file. Get the package again."
        )

    def persistent_load(self, pid: Any) -> Any:
        kind, storage_type, key, _device, length, view = pid
        if kind != "storage" or view is not None:
            raise ModelError("The weights file has storages of an unknown kind.")
        return _Storage(str(key), _STORAGE_DTYPES[storage_type], int(length))


def read_legacy_pth(data: bytes) -> dict[str, Array]:
    """Read torch's legacy (before zip) checkpoint of plain tensors.

    The stream is five pickles (magic number, protocol, system facts, the object, the storage
    keys) followed by each storage's element count as int64 and its raw little-endian elements.

    Returns:
        name -> array, in the dtype stored.

    Raises:
        ModelError: not such a file, cut short, or asking for anything but tensors.
    """
    stream = io.BytesIO(data)

    def load() -> Any:
        return _TensorUnpickler(stream).load()

    try:
        if load() != _LEGACY_MAGIC or load() != _LEGACY_PROTOCOL:
            raise ModelError("The weights file is not in torch's legacy format.")
        if not load().get("little_endian"):
            raise ModelError("The weights file is big-endian, which is not supported.")
        state, keys = load(), load()
        storages: dict[str, Array] = {}
        wanted = {p.storage.key: p.storage for p in state.values()}
        for key in keys:
            storage = wanted[key]
            (count,) = np.frombuffer(stream.read(8), "<i8")
            if count != storage.length:
                raise ModelError("The weights file has a storage of the wrong length.")
            itemsize = np.dtype(storage.dtype).itemsize
            storages[key] = np.frombuffer(stream.read(int(count) * itemsize), storage.dtype)
        return {name: _view(p, storages[p.storage.key]) for name, p in state.items()}
    except ModelError:
        raise
    except Exception as error:
        # A damaged pickle can raise nearly anything; all of it means the same to the user.
        raise ModelError(f"The weights file is damaged ({error!r}). Get the package again.") from (
            error
        )


def _view(pending: _PendingTensor, storage: Array) -> Array:
    strides = [s * storage.itemsize for s in pending.strides]
    end = pending.offset + 1 + sum((n - 1) * s for n, s in zip(pending.shape, pending.strides))
    if len(storage) != pending.storage.length or end > len(storage):
        raise ModelError("The weights file is cut short. Get the package again.")
    view = np.lib.stride_tricks.as_strided(storage[pending.offset :], pending.shape, strides)
    return np.array(view)
