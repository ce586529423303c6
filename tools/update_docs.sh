#!/bin/bash
# usage: update_docs.sh MEZZOTINT [--check]
#
# Rewrites every block of the committed *.md files that reads
#     <!-- generated: list-algorithms -->
#     ...
#     <!-- end generated -->
# with the output of `MEZZOTINT list-algorithms --markdown`. --check changes nothing and fails on a
# difference.
set -euo pipefail
mezzotint=$1
mode=${2:-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
stale=0

while read -r file; do
  [[ -f $file ]] || continue
  awk -v mezzotint="$mezzotint" '
    /^<!-- end generated -->$/ { inside = 0 }
    !inside { print }
    /^<!-- generated: [a-z -]+ -->$/ {
      verb = $0; sub(/^<!-- generated: /, "", verb); sub(/ -->$/, "", verb)
      fflush(); status = system(mezzotint " " verb " --markdown")
      if (status != 0) exit 1
      inside = 1
    }
    END { if (inside) { print "error: unclosed block in " FILENAME > "/dev/stderr"; exit 1 } }
  ' "$file" >"$scratch/new"
  cmp -s "$file" "$scratch/new" && continue
  echo "$file: generated tables differ"
  stale=1
  [[ $mode == --check ]] || cp "$scratch/new" "$file"
done < <(git grep -l '^<!-- generated: ' -- '*.md' || true)

[[ $mode == --check ]] && exit "$stale"
exit 0
