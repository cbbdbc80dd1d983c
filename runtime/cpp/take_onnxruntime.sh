#!/bin/sh
# Makes a folder for -DONNXRUNTIME_ROOT=: take_onnxruntime.sh FOLDER [PYTHON].
#
# The library is that of the Python package onnxruntime, found through PYTHON, so that a C++ program
# and a Python one run the same code. The wheel has no headers; they are taken from the npm package
# below, of 150 MB, and may be of an older release than the library.
set -eu

folder=$1
python=${2:-python3}
headers=com.github.asus4.onnxruntime@0.4.9
inside='*/ios-arm64/onnxruntime.framework/Headers/*.h'

library=$("$python" -c 'import glob, os
from importlib.util import find_spec
spec = find_spec("onnxruntime")
found = glob.glob(spec.submodule_search_locations[0] + "/capi/libonnxruntime.so.*") if spec else []
print(os.path.realpath(found[0]) if found else "")')
[ -n "$library" ] || { echo "$python has no package onnxruntime with a shared library"; exit 1; }

mkdir -p "$folder/lib"
cd "$folder"
if [ ! -e include ]; then
    command -v npm > npm.log || { echo "no npm"; exit 1; }
    rm -rf ./*.tgz include.part
    npm pack --silent --pack-destination . $headers > npm.log 2>&1 ||
        { echo "the npm package $headers cannot be had"; exit 1; }
    mkdir include.part
    tar -xzf ./*.tgz --wildcards --strip-components=7 -C include.part "$inside"
    mv include.part include # whole, or not there
    rm ./*.tgz
fi
for name in libonnxruntime.so libonnxruntime.so.1; do ln -sf "$library" lib/$name; done
