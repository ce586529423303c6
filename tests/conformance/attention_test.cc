// Conformance cases 43 to 46: FP8 attention.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "conformance/fixture.h"
#include "nn/attention_state.h"
#include "numerics/fp8_block.h"
#include "quant/attention_file.h"
#include "solve/hadamard.h"

namespace mezzotint::conformance {
namespace {

constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 64;

enum class Order : uint8_t { kBsnd, kBnsd };

// [1,seq,kHeads,kDim] or [1,kHeads,seq,kDim], of the same values.
struct Heads {
  Heads(int64_t seq_length, Order of) : seq(seq_length), order(of), values(count()) {}
  Heads(int64_t seq_length, Order of, const std::function<float(int64_t, int64_t, int64_t)>& value)
      : Heads(seq_length, of) {
    for (int64_t s = 0; s < seq; ++s) {
      for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t d = 0; d < kDim; ++d) at(s, h, d) = value(s, h, d);
      }
    }
  }

  size_t count() const { return static_cast<size_t>(seq * kHeads * kDim); }
  float& at(int64_t s, int64_t h, int64_t d) {
    const int64_t row = order == Order::kBsnd ? s * kHeads + h : h * seq + s;
    return values[static_cast<size_t>(row * kDim + d)];
  }
  HeadsView view() {
    const bool bsnd = order == Order::kBsnd;
    return {.data = values.data(),
            .dtype = DType::kF32,
            .batch = 1,
            .seq = seq,
            .heads = kHeads,
            .dim = kDim,
            .batch_stride = seq * kHeads * kDim,
            .seq_stride = bsnd ? kHeads * kDim : kDim,
            .head_stride = bsnd ? kDim : seq * kDim};
  }

  int64_t seq;
  Order order;
  std::vector<float> values;
};

// A number of [-1, 1) that depends on all three.
float noise(uint64_t seed, int64_t s, int64_t h, int64_t d) {
  uint64_t z = seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>((s * kHeads + h) * kDim + d);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<float>(static_cast<double>(z >> 11) * 0x1p-52 - 1.0);
}

constexpr int64_t kSeq = 300;

// The output in [s,h,d] order; the first channel of k is biased, as channels of models are.
std::vector<float> attend(const Attention& attention, Order order) {
  const auto filled = [&](uint64_t seed, float bias) {
    return Heads(kSeq, order, [=](int64_t s, int64_t h, int64_t d) {
      return 2 * noise(seed, s, h, d) + (d == 0 ? bias : 0.0f);
    });
  };
  Heads q = filled(1, 0);
  Heads k = filled(2, 4);
  Heads v = filled(3, 0);
  Heads out(kSeq, order);
  attention.run(q.view(), k.view(), v.view(), out.view(), {.scale = 0.125f}, context());
  std::vector<float> flat;
  for (int64_t s = 0; s < kSeq; ++s) {
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t d = 0; d < kDim; ++d) flat.push_back(out.at(s, h, d));
    }
  }
  return flat;
}

Attention float_attention() { return Attention("A", {.heads = kHeads, .head_dim = kDim}); }

Tensor transposed(const Tensor& square) {
  const std::vector<float> values = floats_of(square);
  std::vector<float> turned;
  for (size_t i = 0; i < kDim; ++i) {
    for (size_t j = 0; j < kDim; ++j) turned.push_back(values[j * kDim + i]);
  }
  return float_tensor(DType::kF32, square.shape(), turned);
}

// A model of an attention "A" and one linear, and files for both.
struct AttentionFiles {
  explicit AttentionFiles(const std::string& linear = "B") : model(linear, 6, 32, false) {
    model.map.attentions.push_back(&attention);
    std::mt19937_64 random(3);
    files.type = "W8A8_DYNAMIC";
    files.tensors = make_random_layer(*find_algorithm("W8A8_DYNAMIC"), linear,
                                      {.dims = {.n = 6, .k = 32}, .bias = false}, random);
    for (NamedTensor& t : write_attention_params(served_attention("FP8_DYNAMIC"), "A", kDim)) {
      files.tensors.push_back(std::move(t));
    }
  }
  // The file's label at A.quant_type.
  Report load(const std::string& label, const QuantizeOptions& options = {}) {
    files.extra_labels = {{"A.quant_type", label}};
    const std::filesystem::path file = files.write(folder.path());
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      std::filesystem::permissions(entry.path(), std::filesystem::perms{0640});
    }
    return quantize(model.map, file, options, context());
  }

  TestFolder folder;
  OneLinear model;
  Attention attention{"A", {.heads = kHeads, .head_dim = kDim}};
  QuantizedFixture files;
};

TEST(ConformanceEitherWay, Case43_TheLabelInAnyCaseReplacesTheForward) {
  for (const QuantizeOptions& options : kEitherWay) {
    for (const char* label : {"FP8_DYNAMIC", "fp8_dynamic"}) {
      AttentionFiles files;
      const Report report = files.load(label, options);
      EXPECT_EQ(files.attention.algorithm(), "FP8_DYNAMIC") << label;
      EXPECT_EQ(report.quantized(), 2);
    }
  }
}

TEST(Conformance, Case43_OtherLabelsAreErrors) {
  for (const char* label : {"FP8", "Q_FP8_DYNAMIC", "FAQuant", "MXFP8_DYNAMIC"}) {
    AttentionFiles files;
    const Error error = error_of([&] { files.load(label); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << label;
    EXPECT_NE(std::string(error.what()).find(label), std::string::npos) << error.what();
    EXPECT_EQ(files.attention.algorithm(), "FLOAT");
    EXPECT_TRUE(files.model.is_float()) << "all or nothing";

    const Report report = files.load(label, {.strictness = Strictness::kLenient});
    EXPECT_EQ(files.attention.algorithm(), "FLOAT");
    EXPECT_FALSE(files.model.is_float());
    EXPECT_TRUE(has_text(report.unmatched, label)) << label;
  }
}

TEST(ConformanceUpstream, Case43_UpstreamIgnoresOtherLabels) {
  for (const char* label : {"FP8", "Q_FP8_DYNAMIC", "FAQuant"}) {
    AttentionFiles files;
    const Report report = files.load(label, kUpstream);
    EXPECT_EQ(files.attention.algorithm(), "FLOAT") << label;
    EXPECT_EQ(files.model.linear.algorithm(), "W8A8_DYNAMIC");
    EXPECT_TRUE(has_text(report.notes, label)) << label;
  }
}

TEST(ConformanceEitherWay, Case43_AMissingRotationIsAnError) {
  AttentionFiles files;
  files.files.erase("A.k_rot");
  for (const QuantizeOptions& options : kEitherWay) {
    const Error error = error_of([&] { files.load("FP8_DYNAMIC", options); });
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    EXPECT_EQ(error.details().tensor, "A.k_rot");
    EXPECT_EQ(files.attention.algorithm(), "FLOAT");
  }
}

// The attention "A" of files whose q_rot and k_rot are this.
void load_rotated(AttentionFiles& files, const Tensor& rotation, const QuantizeOptions& options) {
  for (const char* name : {"A.q_rot", "A.k_rot"}) files.files.at(name).tensor = rotation;
  files.load("FP8_DYNAMIC", options);
}
std::vector<float> attend_rotated(const Tensor& rotation, Order order,
                                  const QuantizeOptions& options) {
  AttentionFiles files;
  load_rotated(files, rotation, options);
  return attend(files.attention, order);
}

TEST(ConformanceEitherWay, Case44_RotationsLeaveTheScoresAlone) {
  const Tensor rotation = make_rotation(kDim, kRotationSeed);
  const std::vector<float> exact = attend(float_attention(), Order::kBsnd);
  for (const QuantizeOptions& options : kEitherWay) {
    const std::vector<float> ours = attend_rotated(rotation, Order::kBsnd, options);
    const std::vector<float> other = attend_rotated(transposed(rotation), Order::kBsnd, options);
    EXPECT_LT(relative_error(ours, exact), 0.1);
    EXPECT_GT(relative_error(ours, exact), 1e-3) << "not quantized";
    EXPECT_LT(relative_error(other, exact), 0.1);
    EXPECT_NE(ours, other) << "x R is what runs, not x R^T";
  }
  // Teeth: a matrix that is not orthogonal, which no file may hold.
  std::vector<float> skewed = floats_of(rotation);
  for (size_t i = 0; i < kDim; ++i) skewed[i] *= 4;
  const Tensor wrong = float_tensor(DType::kF32, {kDim, kDim}, skewed);
  EXPECT_EQ(error_of([&] { attend_rotated(wrong, Order::kBsnd, {}); }).code(), ErrorCode::kInput);
  Attention attention = float_attention();
  attention.set_state(make_fp8_attention_state(wrong, wrong, 1.0f, active_isa()));
  EXPECT_GT(relative_error(attend(attention, Order::kBsnd), exact), 0.1);
}

// One query against kSeq keys, of which it attends to `key` alone; 0.25, but for row 299 of v.
float value_of_key(const Attention& attention, int64_t key) {
  Heads q(1, Order::kBnsd, [](int64_t, int64_t, int64_t) { return 1.0f; });
  Heads k(kSeq, Order::kBnsd, [&](int64_t s, int64_t, int64_t) { return s == key ? 1.0f : -1.0f; });
  Heads v(kSeq, Order::kBnsd, [](int64_t s, int64_t, int64_t d) {
    if (s == kSeq - 1) return 448.0f * 1024;
    return d == 0 ? 1.0f : 0.25f;
  });
  Heads out(1, Order::kBnsd);
  attention.run(q.view(), k.view(), v.view(), out.view(), {.scale = 1.0f}, context());
  return out.at(0, 0, 1);
}

// v in blocks of 256 rows: a large value in row 299 spoils rows 256..299, no others. Codes of e4m3
// hold 1/448 of it to within 2^-10.
TEST(ConformanceEitherWay, Case45_BlocksOfRowsShareAScaleInEitherOrder) {
  EXPECT_EQ(fp8_block_scale(448.0f), 1.0f);
  const Tensor rotation = make_rotation(kDim, kRotationSeed);
  std::vector<float> identity(static_cast<size_t>(kDim * kDim), 0.0f);
  for (size_t i = 0; i < kDim; ++i) identity[i * kDim + i] = 1;
  for (const QuantizeOptions& options : kEitherWay) {
    EXPECT_EQ(attend_rotated(rotation, Order::kBsnd, options),
              attend_rotated(rotation, Order::kBnsd, options));
    AttentionFiles files;
    load_rotated(files, float_tensor(DType::kF32, {kDim, kDim}, identity), options);
    EXPECT_EQ(value_of_key(files.attention, 255), 0.25f);
    // What is left of the first block is e^-128 of it, or what a kernel's e^x gives for that.
    EXPECT_LT(std::abs(value_of_key(files.attention, 256)), 1e-30f)
        << "0.25 is less than half of the smallest code of its block";
  }
}

TEST(Conformance, Case46_AChildNamedLinearTakesNothingFromItsParent) {
  AttentionFiles files("A.linear");
  const Report report = files.load("FP8_DYNAMIC");
  EXPECT_EQ(files.attention.algorithm(), "FP8_DYNAMIC");
  EXPECT_EQ(files.model.linear.algorithm(), "W8A8_DYNAMIC");
  EXPECT_EQ(report.quantized(), 2);
}

TEST(ConformanceUpstream, Case46_UpstreamLosesTheAttentionToAChildNamedLinear) {
  AttentionFiles files("A.linear");
  const Report report = files.load("FP8_DYNAMIC", kUpstream);
  EXPECT_EQ(files.attention.algorithm(), "FLOAT");
  EXPECT_EQ(files.model.linear.algorithm(), "W8A8_DYNAMIC");
  EXPECT_TRUE(has_text(report.notes, "upstream loses this label"));

  AttentionFiles kept("A.linear");  // a float child excludes its parent, too
  for (NamedTensor& t : kept.files.tensors) t.label = "FLOAT";
  kept.load("FP8_DYNAMIC", kUpstream);
  EXPECT_EQ(kept.attention.algorithm(), "FLOAT");
}

}  // namespace
}  // namespace mezzotint::conformance
