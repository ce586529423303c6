// Whatever an input makes of sizes, strides, key lengths and data, every attention row that this
// processor runs agrees with double within a bound derived from eps, sums and ties, float and FP8,
// and writes nothing beside the output.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "fuzz/input.h"
#include "kernels/float_attention_bound.h"
#include "kernels/fp8_attention_row_bound.h"

namespace {

using namespace mezzotint;        // NOLINT(google-build-using-namespace)
using namespace mezzotint::fuzz;  // NOLINT(google-build-using-namespace)
using testing_data::Heads;
using testing_data::kGap;
using testing_data::Order;

constexpr int64_t kMostProducts = 400'000;  // q, keys, dim of one input: some milliseconds

struct Sizes {
  int64_t q, keys, dim;
};

// Around the tiles of 8 and 64 rows, of 16 and 256 keys, and any dim up to 128.
Sizes sizes_of(Input& in) {
  constexpr int64_t kQueries[] = {1, 8, 66, 128};
  constexpr int64_t kKeys[] = {1, 20, 260, 530};
  Sizes s{};
  s.dim = in.byte() % 2 == 0 ? 16 * (1 + in.below(8)) : 1 + in.below(128);
  s.q = 1 + in.below(in.one_of<int64_t>(kQueries));
  s.keys = 1 + in.below(in.one_of<int64_t>(kKeys));
  s.keys = std::max<int64_t>(1, std::min(s.keys, kMostProducts / (s.q * s.dim)));
  return s;
}

// Scores of numbers below 4 are some hundreds at most, where a float's error in them is small.
float small_number(Input& in) { return static_cast<float>(static_cast<int8_t>(in.byte())) / 32; }

void fill(Heads& heads, Input& in) {
  const HeadsView& v = heads.view;
  for (int64_t b = 0; b < v.batch; ++b) {
    for (int64_t s = 0; s < v.seq; ++s) {
      for (int64_t h = 0; h < v.heads; ++h) {
        for (int64_t d = 0; d < v.dim; ++d) heads.set(b, s, h, d, small_number(in));
      }
    }
  }
}

// The columns between heads, which started as those of q.
bool gaps_untouched(const Heads& out, const Heads& q) {
  const HeadsView& v = q.view;
  for (int64_t b = 0; b < v.batch; ++b) {
    for (int64_t s = 0; s < v.seq; ++s) {
      for (int64_t h = 0; h < v.heads; ++h) {
        for (int64_t d = v.dim; d < v.dim + kGap; ++d) {
          if (out.at(b, s, h, d) != q.at(b, s, h, d)) return false;
        }
      }
    }
  }
  return true;
}

void float_rows(Input& in) {
  const Sizes s = sizes_of(in);
  const int64_t kv_heads = 1 + in.below(2), heads = kv_heads * (1 + in.below(2));
  const DType dtype = in.byte() % 2 == 0 ? DType::kF32 : DType::kBF16;
  const Order order = in.byte() % 2 == 0 ? Order::kBSHD : Order::kBHSD;
  const int64_t batch = 1 + in.below(2);
  float_attention::Problem p =
      testing_data::make_attention({batch, s.q, s.keys, heads, kv_heads, s.dim}, dtype, order);
  for (Heads* operand : {&p.q, &p.k, &p.v}) fill(*operand, in);
  if (in.byte() % 2 == 0) p.kv_length = many(batch, [&] { return in.below(s.keys + 1); });
  for (const AttentionKernel& row : attention_kernels()) {
    if (row.isa > active_isa()) continue;
    if (row.operand != FloatType::kF32 && dtype == DType::kF32) continue;
    const Heads out = float_attention::run(p, 1, row);
    require(float_attention::difference(p, out) == std::nullopt, row.name);
    require(gaps_untouched(out, p.q), row.name);
  }
}

fp8_attention_row::Codes codes_of(Input& in, int64_t rows, int64_t dim, int64_t block) {
  fp8_attention_row::Codes c;
  c.codes = many(rows * dim, [&] {
    const uint8_t code = in.byte();
    return (code & 0x7fu) == 0x7fu ? static_cast<uint8_t>(code ^ 1u) : code;  // no NaN
  });
  c.scale = many((rows + block - 1) / block,
                 [&] { return std::ldexp(1.0f + static_cast<float>(in.byte()) / 256, -8); });
  return c;
}

void fp8_rows(Input& in) {
  const Sizes s = sizes_of(in);
  const fp8_attention_row::Problem p = {.q = codes_of(in, s.q, s.dim, kQueryBlock),
                                        .k = codes_of(in, s.keys, s.dim, kKeyBlock),
                                        .v = codes_of(in, s.keys, s.dim, kKeyBlock),
                                        .q_rows = s.q,
                                        .keys = s.keys,
                                        .dim = s.dim,
                                        .scale = 1.0f / std::sqrt(static_cast<float>(s.dim)),
                                        .p_scale = in.byte() % 2 == 0 ? 1.0f : 448.0f};
  for (const AttentionKernel& row : attention_kernels()) {
    if (row.isa > active_isa()) continue;
    const std::vector<float> out = fp8_attention_row::run(row, p);
    require(fp8_attention_row::compare(p, out).fault == std::nullopt, row.name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in({data, std::min<size_t>(size, 4096)});
  if (in.byte() % 2 == 0) {
    float_rows(in);
  } else {
    fp8_rows(in);
  }
  return 0;
}
