#!/bin/bash
# usage: check_isa_objects.sh OBJECTS.txt HOT_LOOPS.txt
#
# OBJECTS.txt: one object file a line; those below src/kernels/cpu/<isa>/ are checked.
#  1. No ISA object but the portable ones may define a weak symbol: the linker keeps one copy of
#     a weak function, and if that copy was compiled with -mavx512f it runs on machines without.
#  2. In functions whose demangled name matches a regex of HOT_LOOPS.txt (one a line, # comments)
#     no innermost loop may move a vector register to or from the stack frame: an accumulator that
#     spills makes a kernel several times slower and nothing else shows it.
#     A regex that matches no function is an error as well: it guards nothing.
set -euo pipefail
export LC_ALL=C
objects_list=$1
hot_loops=$2
failures=0

mapfile -t objects < <(grep -E '/src/kernels/cpu/[^/]+/[^/]*$' "$objects_list" || true)
mapfile -t patterns < <(grep -vE '^[[:space:]]*(#|$)' "$hot_loops" || true)

for object in "${objects[@]}"; do
  [[ $object == */src/kernels/cpu/portable/* ]] && continue
  weak=$(nm --demangle --defined-only "$object" | grep -E '^[0-9a-f]+ [WVuvw] ' || true)
  if [[ -n $weak ]]; then
    echo "error: $object: expected no weak symbol in an ISA object, got:" >&2
    echo "$weak" | sed 's/^/    /' >&2
    echo "    Give the function internal linkage (static, or an anonymous namespace) or force it inline." >&2
    failures=$((failures + 1))
  fi
done

# Reads a disassembly; prints "found" per matching function and the offending instructions of its
# innermost loops. A loop is the range of a backward jump; it is innermost when no other lies in it.
scan_hot_loops='
function padded(hex) { return substr("0000000000000000" hex, length(hex) + 1) }
function finish(   i, j, inner) {
  if (name == "") return
  print "found"
  for (i = 0; i < loops; i++) {
    inner = 1
    for (j = 0; j < loops; j++)
      if (j != i && lo[j] >= lo[i] && hi[j] <= hi[i] && (lo[j] > lo[i] || hi[j] < hi[i])) inner = 0
    if (!inner) continue
    for (j = 0; j < spills; j++)
      if (at[j] >= lo[i] && at[j] <= hi[i]) print name ": " text[j]
  }
}
/^[0-9a-f]+ <.*>:$/ {
  finish(); loops = spills = frame = 0
  name = $0; sub(/^[0-9a-f]+ </, "", name); sub(/>:$/, "", name)
  if (name !~ pattern) name = ""
  next
}
name != "" && /^ *[0-9a-f]+:/ {
  address = $1; sub(/:$/, "", address); address = padded(address)
  if ($0 ~ /(mov[ \t]+%rsp,%rbp|lea[ \t]+.*\(%rsp\),%rbp)/) frame = 1
  if ($2 ~ /^(j[a-z]+|loop)$/ && $3 ~ /^[0-9a-f]+$/ && padded($3) <= address) {
    lo[loops] = padded($3); hi[loops++] = address
  }
  if ($2 ~ /^v?mov/ && $0 ~ /%[xyz]mm/ && ($0 ~ /\(%rsp/ || (frame && $0 ~ /\(%rbp/))) {
    at[spills] = address; text[spills++] = $0
  }
}
END { finish() }'

for pattern in "${patterns[@]}"; do
  found=0
  for object in "${objects[@]}"; do
    report=$(objdump -dC --no-show-raw-insn "$object" | awk -v pattern="$pattern" "$scan_hot_loops")
    [[ $report == *found* ]] && found=1
    offending=$(grep -v '^found$' <<<"$report" || true)
    if [[ -n $offending ]]; then
      echo "error: $object: expected no stack traffic in the innermost loops of '$pattern', got:" >&2
      echo "$offending" | head -20 | sed 's/^/    /' >&2
      failures=$((failures + 1))
    fi
  done
  if [[ $found == 0 ]]; then
    echo "error: $hot_loops: expected a function for the regex '$pattern', got none" >&2
    failures=$((failures + 1))
  fi
done

exit $((failures > 0))
