#!/bin/sh
# Make the virtual environment $1 and install what facet and its tests need; compile the kernels once.
set -eu
venv=$1
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "facet needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1). Set PYTHON=/path/to/python3." >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip -r requirements.txt -r tests/requirements.txt
# opencv-python loads libGL.so.1; the headless build of the same version does without, and without windows of its own.
if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    version=$(sed -n 's/^opencv-python==//p' requirements.txt)
    echo "opencv-python does not load here (libGL.so.1 is missing): installing opencv-python-headless $version instead"
    "$venv/bin/python" -m pip uninstall --quiet --yes opencv-python
    $pip "opencv-python-headless==$version"
fi
echo "compiling the kernels"
"$venv/bin/python" -m tools.warm
