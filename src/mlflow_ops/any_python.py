"""Tell of the Python that runs this what an installation of MLflow needs, as one JSON line.

People choose that Python, however old it is: nothing newer than Python 3.6 here.
"""

import json
import os
import sys
import sysconfig
from pathlib import Path


def pip() -> str:
    """Return the pip that Python itself would put into an environment, or ''.

    Run from its wheel it brings uv, and need not be installed first. Debian ships ensurepip, and
    the wheel, apart: in python3-venv.
    """
    try:
        import ensurepip
    except ImportError:
        return ""
    bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
    for place in (sysconfig.get_config_var("WHEEL_PKG_DIR"), bundled):
        wheels = sorted(Path(place).glob("pip-*.whl")) if place else []
        if wheels:
            return str(wheels[0])
    return ""


if __name__ == "__main__":
    print(json.dumps({"python": list(sys.version_info[:2]), "pip": pip()}))
