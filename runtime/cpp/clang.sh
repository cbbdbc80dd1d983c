#!/bin/sh
# Prints the folder of a clang++ that has libFuzzer and sanitizers: clang.sh FOLDER.
#
# It is that of the installed one where that has them. Else clang is taken from the system's
# packages, with what installing it would bring, and unpacked in FOLDER, without root. Where that
# cannot be done nothing is printed, and the status is not 0.
set -eu

mkdir -p "$1"
cd "$1"
folder=$PWD

fuzzes() {
    echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' |
        "$1" -fsanitize=fuzzer,address,undefined -x c++ - -o probe > probe.log 2>&1
}

take() {
    version=$(apt-cache depends clang | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
    # What is there already is not brought again; the 32-bit half of the sanitizers is not needed.
    apt-get install --simulate --no-install-recommends "clang-$version" \
        "libclang-rt-$version-dev" | sed -n 's/^Inst \([^ ]*\) .*/\1/p' |
        grep -v -e '^lib32' -e '-i386$' > wanted
    # shellcheck disable=SC2046 # a word a package
    apt-get download $(cat wanted) && for file in *.deb; do dpkg -x "$file" .; done
    libraries=$(find "$folder" -name 'lib*.so.*' -exec dirname {} + | sort -u | paste -s -d :)
    mkdir -p bin
    for name in clang clang++; do
        # Unpacked elsewhere, it does not find its libraries by itself.
        printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$libraries" \
            "$folder/usr/lib/llvm-$version/bin/$name" > bin/$name
        chmod +x bin/$name
    done
}

if fuzzes clang++; then
    dirname "$(command -v clang++)"
    exit
fi
fuzzes bin/clang++ || { take > take.log 2>&1 && fuzzes bin/clang++; }
echo "$folder/bin"
