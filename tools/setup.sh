#!/bin/sh
# Make the virtual environment $1 where it is missing and install the requirements files that follow; compile the kernels.
set -eu
venv=$1
shift
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "facet needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1). Set PYTHON=/path/to/python3." >&2
    exit 1
}

# Print the packages as pip comes to them. A pipe has no status but that of its last command: a file says that pip succeeded.
install() {
    rm -f "$venv/.installed"
    { "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "$@" && : >"$venv/.installed"; } |
        while read -r word package _; do
            case $word in
                Collecting) echo "    $package" ;;
                Installing) echo "    unpacking" ;;
            esac
        done
    [ -f "$venv/.installed" ]
}

if [ ! -x "$venv/bin/python" ]; then
    echo "making the virtual environment $venv"
    "$python" -m venv "$venv"
fi
for requirements in "$@"; do
    echo "installing $requirements, which takes a minute or a few"
    install -r "$requirements"
done
# opencv-python loads libGL.so.1; the headless build of the same version does without, and without windows of its own.
if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    version=$(sed -n 's/^opencv-python==//p' requirements.txt)
    echo "opencv-python does not load here (libGL.so.1 is missing): installing opencv-python-headless $version instead"
    "$venv/bin/python" -m pip uninstall --quiet --yes opencv-python
    install "opencv-python-headless==$version"
fi
echo "compiling the kernels, about ten seconds"
"$venv/bin/python" -m tools.warm
