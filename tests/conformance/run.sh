#!/bin/bash
# ONNX's operator tests, and models of `mpistill create` against PyTorch. A line "ok", "not ok" or "skip" for each.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
status=0
"$build/tests/conformance/conformance" --each || status=1
/usr/bin/python3 tests/conformance/created_models.py "$build/mpistill" "$build/tests/tools/run_model" || status=1
exit $status
