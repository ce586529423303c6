// The formulas of src/numerics give the same bits on a GPU as on the host, on every bf16 input and
// on floats beside and between them. Skips where no device answers.

#include <gtest/gtest.h>

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "numerics/bf16.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/e5m2.h"
#include "numerics/f16.h"
#include "numerics/int4.h"
#include "numerics/int8.h"
#include "numerics/mx.h"
#include "numerics/rounding.h"

namespace mezzotint {
namespace {

constexpr float kScale = 0.0371f;  // no power of two: quotients are rounded
constexpr uint8_t kScaleByte = 124;

// What one float becomes in every format. No padding: compared as bytes.
struct Results {
  uint32_t int8_scale, int4_scale, half_even, half_away, e4m3_value, e2m1_value, mx_value;
  uint16_t bf16, f16;
  uint8_t e4m3, e5m2, e2m1, e2m1_away, mx_scale_floor, mx_scale_even, mx_code;
  int8_t int8, int4, int8_static;
  uint8_t reserved[2];
};
static_assert(sizeof(Results) == 44);

__host__ __device__ inline uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

__host__ __device__ inline Results results_of(float x) {
  Results r{};
  r.int8_scale = bits_of(int8_token_scale(absolute(x)));
  r.int4_scale = bits_of(int4_token_scale(absolute(x)));
  r.half_even = bits_of(round_half_even(x));
  r.half_away = bits_of(round_half_away(x));
  r.bf16 = bf16_from_float(x);
  r.f16 = f16_from_float(x);
  r.e4m3 = e4m3_from_float(x, Rounding::kHalfEven);
  r.e5m2 = e5m2_from_float(x, Rounding::kHalfEven);
  r.e2m1 = e2m1_from_float(x, Rounding::kHalfEven);
  r.e2m1_away = e2m1_from_float(x, Rounding::kHalfAway);
  r.e4m3_value = bits_of(e4m3_to_float(r.e4m3));
  r.e2m1_value = bits_of(e2m1_to_float(r.e2m1));
  r.mx_scale_floor = mx_scale_byte(absolute(x), Element::kE4M3, MxScaleRule::kFloor, 0.0f);
  r.mx_scale_even = mx_scale_byte(absolute(x), Element::kE2M1, MxScaleRule::kEven, 0.0f);
  r.mx_code = mx_code(x, kScaleByte, Element::kE4M3, Rounding::kHalfEven);
  r.mx_value = bits_of(mx_value(r.mx_code, kScaleByte, Element::kE4M3));
  r.int8 = int8_code(x, kScale);
  r.int4 = int4_code(x, kScale);
  r.int8_static = int8_static_code(x, kScale, 3.0f);
  return r;
}

__global__ void compute(const float* x, int64_t count, Results* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) out[i] = results_of(x[i]);
}

std::vector<float> inputs() {
  std::vector<float> x;
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (const uint32_t low : {0x0000u, 0x0001u, 0x5a5au, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      x.push_back(std::bit_cast<float>(high << 16 | low));
    }
  }
  return x;
}

// Memory of the device that frees itself.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : bytes_(count * sizeof(T)) {
    if (cudaMalloc(&data_, bytes_) != cudaSuccess) data_ = nullptr;
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* data() const { return static_cast<T*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

std::vector<Results> on_the_device(const std::vector<float>& x) {
  constexpr int kThreads = 256;
  const auto count = static_cast<int64_t>(x.size());
  const DeviceArray<float> in(x.size());
  const DeviceArray<Results> out(x.size());
  std::vector<Results> results(x.size());
  if (!in.data() || !out.data()) return {};
  cudaMemcpy(in.data(), x.data(), in.bytes(), cudaMemcpyHostToDevice);
  compute<<<(count + kThreads - 1) / kThreads, kThreads>>>(in.data(), count, out.data());
  const cudaError_t error =
      cudaMemcpy(results.data(), out.data(), out.bytes(), cudaMemcpyDeviceToHost);
  EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error);
  return results;
}

TEST(NumericsOnADevice, GiveTheBitsOfTheHost) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
  const std::vector<float> x = inputs();
  const std::vector<Results> results = on_the_device(x);
  ASSERT_EQ(results.size(), x.size());
  int64_t differences = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const Results expected = results_of(x[i]);
    if (std::memcmp(&expected, &results[i], sizeof expected) == 0) continue;
    if (++differences <= 5) ADD_FAILURE() << "of the float with bits " << bits_of(x[i]);
  }
  EXPECT_EQ(differences, 0);
}

}  // namespace
}  // namespace mezzotint
