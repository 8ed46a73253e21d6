#!/bin/sh
# The wheel, as a user has it: in an environment of its own, the package read-only, no home, from another folder.
# It must add only facet to the environment; the README's example and the command must work.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
builder=$(command -v "${PYTHON:-$root/.venv/bin/python}")
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

"$builder" -m build --wheel --no-isolation --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || {
    cat "$work/build.log" >&2
    exit 1
}
"$builder" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install -r "$root/requirements.txt"
site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
{ ls "$site"; ls "$work/venv/bin"; } >"$work/before"
$pip install --no-deps "$work"/dist/facet-*.whl
$pip check
{ ls "$site"; ls "$work/venv/bin"; } >"$work/after"
added=$(diff "$work/before" "$work/after" | sed -n 's/^> //p' | sed 's/^facet-[0-9.]*\(dev[0-9]*\)\{0,1\}\.dist-info$/facet-VERSION.dist-info/' | tr '\n' ' ')
[ "$added" = "facet facet-VERSION.dist-info facet " ] || {
    echo "check_wheel: expected that facet, its dist-info and the command facet are added, found: $added" >&2
    exit 1
}

mkdir -p "$work/run/samples"
cp "$root/samples/demo.mp4" "$work/run/samples/"
awk '/^```python$/ { on = 1; next } /^```$/ { on = 0 } on' "$root/README.md" >"$work/run/example.py"
chmod -R a-w "$site/facet"
chmod a+rx "$work"
# who runs this as root can write what is read-only: nobody cannot, where nobody may start this Python
as=
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --regid=65534 --clear-groups env "$work/venv/bin/python" -c '' 2>/dev/null; then
    as="setpriv --reuid=65534 --regid=65534 --clear-groups"
    chown -R 65534:65534 "$work/run"
fi
find "$site/facet" | sort >"$work/before"
cd "$work/run"
$as env -u XDG_CACHE_HOME -u NUMBA_CACHE_DIR HOME=/proc/none "$work/venv/bin/python" example.py >example.log
grep -q '^face 1: yaw' example.log || {
    echo "check_wheel: expected the README's example to print faces, found: $(head -3 example.log)" >&2
    exit 1
}
$as env -u XDG_CACHE_HOME -u NUMBA_CACHE_DIR HOME=/proc/none "$work/venv/bin/facet" -f samples/demo.mp4 --log x.jsonl --max-frames 30
[ "$(grep -c '"id": *1,' x.jsonl)" -ge 25 ] || {
    echo "check_wheel: expected 30 frames with a face in the log, found $(grep -c '"id"' x.jsonl) of $(wc -l <x.jsonl)" >&2
    exit 1
}
find "$site/facet" | sort >"$work/after"
if [ -n "$as" ]; then
    cmp "$work/before" "$work/after"
fi
echo "check_wheel: the wheel works"
