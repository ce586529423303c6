// Every file of testdata/oracle/weights: the codes and scales that tools/oracle, which shares no
// code with the library, makes of float weights. Bit for bit; rules in testdata/oracle/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "numerics/affine.h"
#include "numerics/mx.h"
#include "quant/file_fixture.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

std::vector<fs::path> golden_files(const std::string& rule) {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::directory_iterator(fs::path(MZ_SOURCE_DIR) / "testdata/oracle/weights")) {
    const WeightStore store = WeightStore::open_file(entry.path());
    if (store.metadata().at("rule") == rule) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

std::string case_name(const testing::TestParamInfo<fs::path>& info) {
  return info.param.stem().string();
}

// --- what the library writes ---------------------------------------------------------------------

class ExportedWeights : public testing::TestWithParam<fs::path> {};

LayerTensors written(const WeightStore& golden, const Tensor& w) {
  const AlgorithmRow& row = *find_algorithm(golden.metadata().at("algorithm"));
  return write_layer_params(row, {.name = "l", .weight = w, .bias = std::nullopt}, {}, context());
}

// Tensors of the golden that are not those of `layer`.
int differences(const WeightStore& golden, const LayerTensors& layer) {
  int count = 0;
  for (const TensorInfo& info : golden.tensors()) {
    if (info.name == "w") continue;
    const auto it = std::ranges::find(layer, "l." + info.name, &NamedTensor::name);
    if (it == layer.end() || !same_bytes(it->tensor, golden.read(info.name))) ++count;
  }
  return count;
}

TEST_P(ExportedWeights, AreTheOraclesBitForBit) {
  const WeightStore golden = WeightStore::open_file(GetParam());
  ASSERT_GE(golden.tensors().size(), 3u);  // w, weight, weight_scale
  EXPECT_EQ(differences(golden, written(golden, golden.read("w"))), 0);
}

TEST_P(ExportedWeights, OfAnotherWeightDiffer) {
  const WeightStore golden = WeightStore::open_file(GetParam());
  const Tensor w = golden.read("w");
  std::vector<float> values(w.data<float>(), w.data<float>() + w.size());
  values[0] *= 3;
  EXPECT_GT(differences(golden, written(golden, float_tensor(DType::kF32, w.shape(), values))), 0);
}

INSTANTIATE_TEST_SUITE_P(Files, ExportedWeights, testing::ValuesIn(golden_files("export")),
                         case_name);

// --- what upstream's exporter writes: the formulas in numerics -----------------------------------

class UpstreamWeights : public testing::TestWithParam<fs::path> {};

// The elements of a stored weight, one per byte.
std::vector<uint8_t> stored_codes(const WeightStore& golden, int64_t n, int64_t k) {
  const Tensor weight = golden.read("weight");
  std::vector<uint8_t> codes(static_cast<size_t>(n * k));
  const auto* bytes = reinterpret_cast<const uint8_t*>(weight.raw());
  for (int64_t i = 0; i < n * k; ++i) {
    const bool packed = weight.dtype() == DType::kU8;
    const uint8_t byte = bytes[packed ? i / 2 : i];
    codes[static_cast<size_t>(i)] =
        packed ? static_cast<uint8_t>(i % 2 == 0 ? byte & 15 : byte >> 4) : byte;
  }
  return codes;
}

void expect_affine(const WeightStore& golden, const float* w, const std::vector<uint8_t>& codes,
                   int64_t n, int64_t k) {
  const Tensor scale = golden.read("weight_scale");
  const Tensor offset = golden.read("weight_offset");
  const int bits = golden.metadata().at("algorithm").starts_with("W8") ? 8 : 4;
  const float* offsets = offset.data<float>();
  const bool symmetric =
      std::all_of(offsets, offsets + offset.size(), [](float v) { return v == 0; });
  const int64_t group = n * k / scale.size();
  for (int64_t g = 0; g < scale.size(); ++g) {
    const float* part = w + g * group;
    const auto [low, high] = std::minmax_element(part, part + group);
    const AffineParams params = affine_params(*low, *high, bits, symmetric);
    EXPECT_EQ(params.scale, scale.data<float>()[g]);
    EXPECT_EQ(params.offset, offsets[g]);
    for (int64_t i = 0; i < group; ++i) {
      EXPECT_EQ(affine_code(part[i], params, bits),
                static_cast<int8_t>(codes[static_cast<size_t>(g * group + i)]));
    }
  }
}

// One row of MX blocks.
void expect_blocks(const float* w, const uint8_t* codes, const uint8_t* bytes, int64_t k,
                   Element element) {
  const MxScaleRule rule =
      element == Element::kE2M1 ? MxScaleRule::kUpstreamFp4 : MxScaleRule::kFloor;
  for (int64_t first = 0; first < k; first += kMxBlock) {
    const int64_t count = std::min(kMxBlock, k - first);
    uint8_t got[kMxBlock];
    EXPECT_EQ(mx_quantize_block(w + first, count, element, rule, Rounding::kHalfAway, got),
              bytes[first / kMxBlock]);
    EXPECT_EQ(std::memcmp(got, codes + first, static_cast<size_t>(count)), 0);
  }
}

void expect_mx(const WeightStore& golden, const float* w, const std::vector<uint8_t>& codes,
               int64_t n, int64_t k) {
  const Tensor scale = golden.read("weight_scale");
  const Element element =
      golden.metadata().at("algorithm") == "W8A8_MXFP8" ? Element::kE4M3 : Element::kE2M1;
  std::vector<float> row(static_cast<size_t>(k));
  for (int64_t i = 0; i < n; ++i) {
    std::copy_n(w + i * k, k, row.begin());
    if (golden.find("weight_dual_scale") != nullptr) {
      const Tensor dual = golden.read("weight_dual_scale");
      constexpr int64_t kDual = 512;
      for (int64_t first = 0; first < k; first += kDual) {
        const auto begin = row.begin() + first;
        const auto end = row.begin() + std::min(k, first + kDual);
        float amax = 0;
        for (auto it = begin; it != end; ++it) amax = std::max(amax, std::abs(*it));
        const float outer = amax / kE2M1Max;
        EXPECT_EQ(outer, dual.data<float>()[i * dual.dim(1) + first / kDual]);
        for (auto it = begin; it != end; ++it) *it /= outer;
      }
    }
    expect_blocks(row.data(), codes.data() + i * k, scale.data<uint8_t>() + i * scale.dim(1), k,
                  element);
  }
}

TEST_P(UpstreamWeights, AreThoseOfTheNamedRules) {
  const WeightStore golden = WeightStore::open_file(GetParam());
  const Tensor w = golden.read("w");
  const std::vector<uint8_t> codes = stored_codes(golden, w.dim(0), w.dim(1));
  const bool affine = golden.find("weight_offset") != nullptr;
  (affine ? expect_affine : expect_mx)(golden, w.data<float>(), codes, w.dim(0), w.dim(1));
}

INSTANTIATE_TEST_SUITE_P(Files, UpstreamWeights, testing::ValuesIn(golden_files("upstream")),
                         case_name);

}  // namespace
}  // namespace mezzotint
