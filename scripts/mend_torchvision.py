"""Makes `import torchvision` work in every program of this environment, where torch and torchvision are of different
builds (a CPU build of torch beside PyPI's torchvision, which is built for CUDA). Does nothing where they fit.

Stock diffusers imports transformers, and that imports torchvision where it is installed. The processors of Qwen-Image
need it to be. So with such a pair the first line of any script with DiffusionPipeline would fail.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

PTH = Path(sysconfig.get_paths()["purelib"]) / "zz_fewstep_torchvision.pth"  # after the file that makes fewstep known
LINE = (
    'import importlib.util; importlib.util.find_spec("fewstep") and importlib.import_module('
    '"fewstep.runtime.torchvision_import").mend_next_import()\n'
)


def main() -> int:
    PTH.unlink(missing_ok=True)  # the pair may be another one by now
    told = _imported()
    if told is None:
        return 0
    if "torchvision::nms" not in told:
        print(f"torchvision cannot be imported here: {told}", file=sys.stderr)
        return 2
    PTH.write_text(LINE)
    told = _imported()
    if told is not None:
        PTH.unlink()
        print(f"torch and torchvision are of different builds, and that could not be mended: {told}", file=sys.stderr)
        return 2
    print(f"torch and torchvision are of different builds. {PTH} mends that for programs of this environment.")
    return 0


def _imported() -> str | None:
    """The last line of what a fresh process says that imports torchvision; None if it can."""
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip() or "it was killed").splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
