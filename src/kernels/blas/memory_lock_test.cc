#include "kernels/blas/memory_lock.h"

#include <cblas.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace mezzotint {
namespace {

constexpr int kSize = 256;  // large enough for OpenBLAS to pack its operands into a buffer

std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> c(a.size());
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kSize, kSize, kSize, 1.0f, a.data(), kSize,
              b.data(), kSize, 0.0f, c.data(), kSize);
  return c;
}

std::vector<float> matrix(int seed) {
  std::vector<float> values(static_cast<size_t>(kSize) * kSize);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>((static_cast<int>(i) * 7 + seed) % 13 - 6);
  }
  return values;
}

TEST(BlasMemoryLock, StandsInFrontOfOpenBlas) {
  const int64_t before = blas::locked_allocations();
  product(matrix(1), matrix(2));
  EXPECT_EQ(blas::locked_allocations(), before + 1)
      << "the linker option --wrap=blas_memory_alloc is missing (cmake/dependencies.cmake)";
}

// Without the lock one product in some thousands is wrong where two processors are free.
TEST(BlasMemoryLock, ConcurrentProductsAreRight) {
  const std::vector<float> a = matrix(1), b = matrix(2), c = matrix(3);
  const std::vector<float> ab = product(a, b), ac = product(a, c);
  std::atomic<int> wrong{0};
  const auto repeat = [&](const std::vector<float>& right, const std::vector<float>& expected) {
    for (int i = 0; i < 200; ++i) {
      if (product(a, right) != expected) ++wrong;
    }
  };
  std::thread other(repeat, b, ab);
  repeat(c, ac);
  other.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace mezzotint
