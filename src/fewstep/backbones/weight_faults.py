"""What can be wrong with the weight files of a part, and how it is told: by the names of tensors and their headers."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fewstep.backbones.folder import TensorHeader
from fewstep.runtime.errors import ModelError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
# Names by which tools write what stored numbers must be multiplied with.
SCALES = ("scale_weight", "weight_scale", "weight_scale_inv", "scale_input", "input_scale", "scaled_fp8", "comfy_quant")
PACKED = ("qweight", "qzeros", "absmax", "quant_map", "quant_state", "weight_packed", "nested_absmax", "SCB")
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class WeightFaults:
    """What is wrong between files and model.

    Args:
        missing: tensors of the model that no file has.
        unread: tensors of the files that the model does not have.
        misshapen: tensors of both, with the shape in the files and that in the model.
    """

    missing: tuple[str, ...]
    unread: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def any(self) -> bool:
        return bool(self.missing or self.unread or self.misshapen)

    def words(self) -> str:
        """Each of them in a few words, with the first names and how many there are."""
        return "; ".join(_told(self))


def refuse_quantised(part: Path, held: Mapping[str, TensorHeader]) -> None:
    """Checks for formats whose stored numbers are not the weights, by the names of their tensors.

    Raises:
        ModelError: scaled fp8, or packed integers. The message says which.
    """
    fp8 = [name for name, entry in held.items() if entry["dtype"].startswith("F8_")]
    scales = [name for name in held if name.rpartition(".")[2] in SCALES]
    packed = [name for name in held if any(word in PACKED for word in name.split("."))]
    remedy = "Take the release of this model in bf16, fp16 or fp32"
    if scales:
        kind = "scaled fp8" if fp8 else "scaled"
        what = f"{len(fp8)} tensors in fp8 and " if fp8 else ""
        raise ModelError(
            f"{part} holds {kind} weights, which are stored numbers times a scale: {what}{few_names(scales)} beside "
            f"them. fewstep reads plain weights only. {remedy}, or multiply by the scales and save that"
        )
    if packed:
        raise ModelError(
            f"{part} holds quantised weights, packed with {few_names(packed)}. fewstep reads plain weights only. "
            f"{remedy}"
        )


def refuse_other_dtypes(part: Path, held: Mapping[str, TensorHeader], integers: Collection[str]) -> None:
    """Checks the dtypes of all tensors. integers: the names of the model's tensors that are no floats.

    Raises:
        ModelError: a weight that is stored as integers, or in a dtype that torch does not have.
    """
    odd = {name: entry["dtype"] for name, entry in held.items() if entry["dtype"] not in DTYPES}
    wrong = {name: dtype for name, dtype in odd.items() if name not in integers}
    if wrong:
        kinds = ", ".join(sorted(set(wrong.values())))
        raise ModelError(
            f"{part} stores {few_names(sorted(wrong))} as {kinds}, where the model has floating-point weights. Take "
            "the release of this model in bf16, fp16 or fp32"
        )


def _told(faults: WeightFaults) -> Iterator[str]:
    prefix = _prefix(faults.unread, faults.missing)
    if prefix:
        yield f"all {len(faults.missing):,} names that it needs stand there behind '{prefix}'"
        return
    if faults.missing:
        yield f"missing, so that random numbers would stand in: {few_names(faults.missing)}"
    if faults.unread:
        yield f"not read by the model: {few_names(faults.unread)}"
    if faults.misshapen:
        name, ours, theirs = faults.misshapen[0]
        yield f"of another shape: {few_names([n for n, _, _ in faults.misshapen])} ({name}: {ours} for {theirs})"


def _prefix(unread: Collection[str], missing: Collection[str]) -> str | None:
    """What stands before every missing name in the files; None if that is not all that is wrong."""
    if not missing or len(unread) != len(missing):
        return None
    first = min(missing)
    found = (name.removesuffix(first) for name in unread if name.endswith(f".{first}"))
    return next((prefix for prefix in found if {prefix + name for name in missing} == set(unread)), None)


def few_names(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(list(names)[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN:,} more"
