#!/bin/sh
# Builds the C++ runtime and runs its tests: test.sh PRESET, one of CMakePresets.json.
#
# Headers that are not installed, and clang for the preset `fuzz`, are taken from the system's
# packages and unpacked in the build folder, without root; take_onnxruntime.sh takes the rest. Where
# that cannot be done the tests are skipped with one line that says why.
set -eu

preset=$1
cd "$(dirname "$0")"
build=../../build/cpp
packages=$build/packages
wanted="nlohmann-json3-dev doctest-dev libcli11-dev libstb-dev"
unset MAKEFLAGS MFLAGS MAKELEVEL # cmake starts a build of its own
if command -v ninja > /dev/null; then export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"; fi

skip() {
    echo "C++ tests skipped: $1"
    exit 0
}

headers_found() {
    printf '#include <%s>\n' "$@" |
        "$compiler" -std=c++17 -isystem $packages/usr/include -x c++ -E - > /dev/null 2>&1
}

take_packages() {
    mkdir -p $packages
    cd $packages
    {
        for package in $wanted; do apt-get download "$package"; done # a system may lack some
        for file in *.deb; do dpkg -x "$file" .; done
    } > download.log 2>&1
    cd - > /dev/null
}

oldest=3.22 # of cmake
compiler=${CXX:-c++}
command -v "$compiler" > /dev/null || skip "no C++ compiler; install one, such as g++"
for tool in cmake ctest; do
    command -v $tool > /dev/null || skip "no $tool; install cmake $oldest or later"
done
found=$(cmake --version | sed -n 's/^cmake version //p')
[ "$(printf '%s\n' $oldest "$found" | sort -V | head -n 1)" = $oldest ] ||
    skip "cmake is version $found; install $oldest or later"
mkdir -p $build
needed="nlohmann/json.hpp doctest/doctest.h"
of_tool="CLI/CLI.hpp stb/stb_image_write.h"
# shellcheck disable=SC2086 # two words each
{
    headers_found $needed $of_tool || take_packages || true
    headers_found $needed || skip "no headers of nlohmann-json and doctest; install $wanted"
}
# shellcheck disable=SC2086
headers_found $of_tool ||
    echo "keepstep-run left out of the C++ tests: no CLI11 or stb; install libcli11-dev libstb-dev"

without_onnxruntime=ON
if [ "$preset" = fuzz ]; then
    programs=$(./clang.sh $build/clang) || skip "no clang with libFuzzer; install clang"
    PATH=$programs:$PATH
else
    # The library of the Python tests, so that both runtimes can be compared to the bit.
    python=../../.venv/bin/python
    [ -x $python ] || python=python3
    if ./take_onnxruntime.sh $build/onnxruntime $python > $build/onnxruntime.log 2>&1; then
        without_onnxruntime=OFF
    else
        echo "C++ backend onnxruntime left out of the tests: $(tail -n 1 $build/onnxruntime.log)"
    fi
fi

cmake --preset "$preset" -DCMAKE_DISABLE_FIND_PACKAGE_ONNXRuntime=$without_onnxruntime > $build/configure.log 2>&1 || {
    cat $build/configure.log
    exit 1
}
cmake --build --preset "$preset" --parallel "$(getconf _NPROCESSORS_ONLN)"
ctest --preset "$preset" --parallel "$(getconf _NPROCESSORS_ONLN)"
