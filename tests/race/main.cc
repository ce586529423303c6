// A race inside parallel_for, built in the tsan preset only: the sanitizer has to see it, or what
// src/base/thread_sanitizer.h tells it hides too much.
#include <cstdint>
#include <cstdio>

#include "base/parallel_for.h"

int main() {
  mezzotint::ExecOptions options;
  options.threads = 4;
  const mezzotint::ExecContext ctx(options);
  int64_t sum = 0;
  for (int round = 0; round < 20; ++round) {
    mezzotint::parallel_for(ctx, 100000, 100, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum += i;
    });
  }
  std::printf("%lld\n", static_cast<long long>(sum));
  return 0;
}
