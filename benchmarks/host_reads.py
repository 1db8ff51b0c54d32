"""Where the host would wait for the device: counted on a CPU, where nothing waits.

On a GPU torch.cuda.set_sync_debug_mode("error") tells. Here every operation is watched, and what stems from the
device's tensors - parameters, batch, and whatever is computed with them - is told apart from what the host made on its
own: reading a value of the former (item, bool, tolist), or asking for a shape that depends on values (nonzero, indexing
by a mask, repeat_interleave without its output's size), would wait. So would making a tensor from a list right on the
device, whose copy is not pinned.
"""

import traceback
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"}
METHODS = {"tolist", "numpy", "cpu", "__array__"}  # that read without an operation of their own
MAKERS = {"tensor", "as_tensor"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}


class HostReads(TorchDispatchMode):
    """A context that counts. found: one line a read, what was asked and by whom.

    Args:
        device: tensors that a GPU run would hold on its device.
    """

    def __init__(self, device: Iterable[Tensor]):
        super().__init__()
        self.found: list[str] = []
        self._on_device: dict[int, StorageWeakRef] = {}
        self._asking = _Asking(self)
        for tensor in device:
            self.add(tensor)

    def __enter__(self) -> "HostReads":
        self._asking.__enter__()
        return super().__enter__()

    def __exit__(self, *ended: Any) -> None:
        super().__exit__(*ended)
        self._asking.__exit__(*ended)

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._on_device[storage._cdata] = StorageWeakRef(storage)

    def holds(self, value: Any) -> bool:
        if not isinstance(value, Tensor):
            return False
        held = self._on_device.get(value.untyped_storage()._cdata)
        return held is not None and not held.expired()

    def note(self, what: str) -> None:
        here = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
        outer = [frame for frame in here if frame.filename != __file__]
        self.found.append(f"{what} in {outer[-1].filename.rsplit('/', 1)[-1]}:{outer[-1].name}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tree_leaves((args, kwargs or {}))
        tainted, name = any(self.holds(value) for value in given), func.overloadpacket.__name__
        if tainted and (name in READS or _shaped_by_values(name, args)):
            self.note(name)
        answer = func(*args, **(kwargs or {}))
        if tainted:
            for value in tree_leaves(answer):
                if isinstance(value, Tensor):
                    self.add(value)
        return answer


class _Asking(TorchFunctionMode):
    """The calls that no operation shows."""

    def __init__(self, reads: HostReads):
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in METHODS and args and self.reads.holds(args[0]):
            self.reads.note(name)
        if name in MAKERS and (kwargs or {}).get("device") is not None:
            self.reads.note(f"{name} from the host's values")
        return func(*args, **(kwargs or {}))


def _shaped_by_values(name: str, args: Any) -> bool:
    if name == "repeat_interleave":
        return True
    if name in INDEXED:
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
    return False
