#!/bin/sh
# Removes what apptell never loads from the libraries of an environment: sh .ci/trim_environment.sh SITE_PACKAGES
#
# For the image only. It needs strip (binutils). The image's test identifies captures with and without a model,
# reads records back and serves pages, so that a part that is needed is missed there.
set -eu
cd "$1"

rm -rf pip pip-*.dist-info setuptools setuptools-*.dist-info pkg_resources _distutils_hack distutils-precedence.pth
# headers, tests, static libraries, and Arrow's parts for other programs
rm -rf pyarrow/include pyarrow/tests pyarrow/src pyarrow/includes pyarrow/libarrow_flight* \
    pyarrow/_flight* pyarrow/_substrait* pyarrow/_orc* pyarrow/libarrow_python_flight*
rm -rf numba/tests numba/cuda/tests numpy/f2py numpy/distutils numpy/_core/include numpy/_pyinstaller
find numpy numba llvmlite pyarrow onnxruntime -type d -name tests -prune -exec rm -rf {} +
find . -name '*.a' -delete
find . \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' \) -delete
# tools that change or convert models; the Python extension holds the runtime itself
rm -rf onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnxruntime/datasets \
    onnxruntime/backend onnxruntime/capi/libonnxruntime.so*
# zstandard's second backend, for interpreters without C extensions
rm -f zstandard/_cffi.*.so
# wheels cannot hold links: a library under its three names is there three times
for library in pyarrow/lib*.so.*.*.*; do
    [ -e "$library" ] || continue
    for name in "${library%.so.*}.so" "${library%.*.*}"; do
        [ -e "$name" ] && ln -sf "${library##*/}" "$name"
    done
done
# symbols for debuggers. Libraries under *.libs were edited after linking, and strip would spoil them
find . -name '*.libs' -prune -o -type f -name '*.so*' -exec strip --strip-unneeded {} +
