#!/bin/bash
# usage: isa_objects_test.sh CHECKER CXX WORK_DIR
# tools/check_isa_objects.sh accepts a clean kernel and rejects a weak symbol, a spilling hot loop and
# a regex that matches nothing.
set -euo pipefail
checker=$1 cxx=$2 work=$3
folder=$work/src/kernels/cpu/avx2
rm -rf "$work"
mkdir -p "$folder"

compile() { "$cxx" -std=c++20 -O2 -mavx2 -mfma -fno-exceptions -c -o "$folder/$1.o" -x c++ - && echo "$folder/$1.o" >"$work/$1.txt"; }
expect() {  # expect STATUS MESSAGE OBJECT
  local status=0 output
  output=$("$checker" "$work/$3.txt" "$work/hot.txt" 2>&1) || status=$?
  [[ $status == "$1" && $output == *"$2"* ]] && return
  echo "$3: expected status $1 and '$2', got $status: $output" >&2
  exit 1
}

compile clean <<'EOF'
#include <immintrin.h>
static float first(__m256 x) { return _mm256_cvtss_f32(x); }
float dot_hot(const float* x, const float* y, int n) {
  __m256 sum = _mm256_setzero_ps();
  for (int i = 0; i < n; i += 8) sum = _mm256_fmadd_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i), sum);
  return first(sum);
}
EOF
compile weak <<'EOF'
__attribute__((noinline)) inline int shared_by_all(int x) { return x * x + 1; }
int dot_hot(int n) { int sum = 0; for (int i = 0; i < n; ++i) sum += shared_by_all(i + sum); return sum; }
EOF
compile spill <<'EOF'
#include <immintrin.h>
float dot_hot(const float* x, int n) {
  volatile __m256 sum = _mm256_setzero_ps();
  for (int i = 0; i < n; i += 8) sum = _mm256_add_ps(sum, _mm256_loadu_ps(x + i));
  return _mm256_cvtss_f32(sum);
}
EOF

echo '_hot\(' >"$work/hot.txt"
expect 0 "" clean
expect 1 "expected no weak symbol" weak
expect 1 "expected no stack traffic" spill
echo 'no_such_function' >"$work/hot.txt"
expect 1 "expected a function for the regex 'no_such_function'" clean
echo "4 cases held"
