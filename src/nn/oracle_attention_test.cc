// Every file of testdata/oracle/attention: FP8_DYNAMIC attention as tools/oracle computes it in
// float64. testdata/oracle/README.md says how q, k and v are made.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "mezzotint/attention.h"
#include "nn/attention_state.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

// Element i of an input: multiples of 1/64 in [-2, 2), by murmur3's finalizer.
float hashed(uint32_t i, uint32_t seed) {
  uint32_t x = i + seed * 0x9e3779b1u;
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  x ^= x >> 16;
  return (static_cast<float>(x >> 24) - 128.0f) / 64.0f;
}

struct Golden {
  explicit Golden(const fs::path& file) : store(WeightStore::open_file(file)) {
    scale = store.read("scale").data<float>()[0];
  }
  int64_t number(const std::string& name) const { return std::stoll(store.metadata().at(name)); }
  std::vector<int64_t> integers(const std::string& name) const {
    const Tensor t = store.read(name);
    return {t.data<int64_t>(), t.data<int64_t>() + t.size()};
  }
  Tensor rotation() const {
    const int64_t dim = number("head_dim");
    const bool hadamard = store.metadata().at("rotation") == "hadamard";
    std::vector<float> values;
    for (int64_t i = 0; i < dim; ++i) {
      for (int64_t j = 0; j < dim; ++j) {
        const bool odd = std::popcount(static_cast<uint64_t>(i & j)) % 2 != 0;
        const float entry = (odd ? -1.0f : 1.0f) / std::sqrt(static_cast<float>(dim));
        values.push_back(hadamard ? entry : static_cast<float>(i == j));
      }
    }
    return float_tensor(DType::kBF16, {dim, dim}, values);
  }

  WeightStore store;
  float scale = 0;
};

// [batch,seq,heads,dim]
struct Operand {
  Operand(const Golden& golden, const char* seq, const char* heads)
      : shape{golden.number("batch"), golden.number(seq), golden.number(heads),
              golden.number("head_dim")},
        values(static_cast<size_t>(element_count(shape))) {}
  void fill(uint32_t seed) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = hashed(static_cast<uint32_t>(i), seed);
  }
  HeadsView view() {
    return {.data = values.data(),
            .dtype = DType::kF32,
            .batch = shape[0],
            .seq = shape[1],
            .heads = shape[2],
            .dim = shape[3],
            .batch_stride = shape[1] * shape[2] * shape[3],
            .seq_stride = shape[2] * shape[3],
            .head_stride = shape[3]};
  }

  Shape shape;
  std::vector<float> values;
};

// The rows of the golden, [batch,heads,rows,dim]; `state` null: float attention.
std::vector<float> run(const Golden& golden, std::shared_ptr<const AttentionState> state) {
  Operand q(golden, "sq", "heads"), k(golden, "skv", "kv_heads"), v(golden, "skv", "kv_heads");
  Operand out(golden, "sq", "heads");
  q.fill(1);
  k.fill(2);
  v.fill(3);
  const int64_t dim = golden.number("head_dim");
  constexpr size_t kBiasedChannel = 3;
  for (size_t i = kBiasedChannel; i < k.values.size(); i += static_cast<size_t>(dim)) {
    k.values[i] *= 4.0f;
  }
  Attention attention(
      "a",
      {.heads = golden.number("heads"), .kv_heads = golden.number("kv_heads"), .head_dim = dim});
  attention.set_state(std::move(state));
  const std::vector<int64_t> lengths = golden.integers("kv_length");
  attention.run(q.view(), k.view(), v.view(), out.view(),
                {.scale = golden.scale, .kv_length = lengths}, ExecContext({.threads = 2}));
  std::vector<float> rows;
  const HeadsView view = out.view();
  for (int64_t b = 0; b < view.batch; ++b) {
    for (int64_t h = 0; h < view.heads; ++h) {
      for (const int64_t row : golden.integers("rows")) {
        const float* y = out.values.data() + b * view.batch_stride + row * view.seq_stride +
                         h * view.head_stride;
        rows.insert(rows.end(), y, y + dim);
      }
    }
  }
  return rows;
}

// Largest error, relative to the norm of its row.
template <typename T>
double worst_row_error(const std::vector<float>& y, const Tensor& expected) {
  const int64_t dim = expected.dim(3);
  double worst = 0;
  for (int64_t first = 0; first < expected.size(); first += dim) {
    double error = 0;
    double norm = 0;
    for (int64_t i = first; i < first + dim; ++i) {
      const auto e = static_cast<double>(expected.data<T>()[i]);
      error += (y[static_cast<size_t>(i)] - e) * (y[static_cast<size_t>(i)] - e);
      norm += e * e;
    }
    worst = std::max(worst, std::sqrt(error / norm));
  }
  return worst;
}

class OracleAttention : public testing::TestWithParam<const char*> {};

// The same algorithm in f32 is 3e-7 off; a numerator that rounds to the next e4m3, on a machine
// with another exp, makes some 1e-4. Attention without FP8 is 0.07 off: this is a narrow bound.
TEST_P(OracleAttention, IsNearFloat64OnEveryIsa) {
  const Golden golden(fs::path(MZ_SOURCE_DIR) / "testdata/oracle/attention" / GetParam());
  const Tensor expected = golden.store.read("y");
  constexpr double kTolerance = 5e-4;
  for (int isa = 0; isa <= static_cast<int>(active_isa()); ++isa) {
    const auto state =
        make_fp8_attention_state(golden.rotation(), golden.rotation(), 1.0f, static_cast<Isa>(isa));
    EXPECT_LT(worst_row_error<double>(run(golden, state), expected), kTolerance) << isa;
  }
  EXPECT_GT(worst_row_error<double>(run(golden, nullptr), expected), 100 * kTolerance);
}

TEST_P(OracleAttention, FloatIsTheOraclesFloat) {
  const Golden golden(fs::path(MZ_SOURCE_DIR) / "testdata/oracle/attention" / GetParam());
  EXPECT_LT(worst_row_error<float>(run(golden, nullptr), golden.store.read("y_float")), 2e-6);
}

INSTANTIATE_TEST_SUITE_P(
    Files, OracleAttention, testing::Values("rotated_d64.safetensors", "tails_d96.safetensors"),
    [](const auto& info) {
      return std::string(info.param).substr(0, std::string_view(info.param).find('.'));
    });

}  // namespace
}  // namespace mezzotint
