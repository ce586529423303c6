// Conformance cases 47 and 48: write(read(file)), and what reads it.
#include <gtest/gtest.h>

#include <filesystem>

#include "conformance/fixture.h"
#include "quant/attention_file.h"
#include "solve/hadamard.h"

namespace mezzotint::conformance {
namespace {

namespace fs = std::filesystem;

// Letters that mean nothing to a contract are not read.
constexpr LayerDims kDims = {.n = 6, .k = 64, .steps = 3, .rank = 4};

LayerDims dims_of(const AlgorithmRow& row, int64_t groups) {
  LayerDims dims = kDims;
  dims.groups = has_groups(row) ? groups : 0;
  if (!row.parameters.low_rank) dims.rank = 0;
  if (row.contract->mode != ActivationMode::kPolicy) dims.steps = 0;
  return dims;
}

// What was read, under the names and in the forms of the file.
LayerTensors rewritten(const fs::path& file, const LayerTensors& tensors) {
  const QuantizedFolder folder = open_quantized(file);
  require_no_problems(folder);
  const LayerEntry& entry = folder.layers.at(0);
  const LayerFile stored = {.layer = entry.layer,
                            .prefix = entry.prefix,
                            .file = {},
                            .tensor = [&](const std::string& name) -> std::optional<Tensor> {
                              for (const NamedTensor& t : tensors) {
                                if (t.name == name) return t.tensor;
                              }
                              return std::nullopt;
                            }};
  return rewrite_layer_params(*entry.algorithm, read_layer(folder, entry), stored);
}

TEST(Conformance, Case47_AForeignFileIsReadAndWrittenByteForByte) {
  int tried = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract == nullptr) continue;
    for (uint64_t seed = 0; seed < 10; ++seed) {
      const std::string name(row.name);
      const RandomLayerOptions options = {.dims = dims_of(row, seed % 2 == 0 ? 0 : 2),
                                          .bias = seed % 3 != 0,
                                          .smoothing = seed % 5 == 0};
      const LayerTensors tensors = random_layer_of(name, "0", options, 470 + seed);
      const TestFolder folder;
      const fs::path file = write_layer(folder, name, tensors);
      const LayerTensors back = rewritten(file, tensors);
      ASSERT_EQ(back.size(), tensors.size()) << name << " seed " << seed;
      for (const NamedTensor& t : back) {
        const auto stored = std::ranges::find(tensors, t.name, &NamedTensor::name);
        ASSERT_NE(stored, tensors.end()) << t.name;
        EXPECT_TRUE(same_bytes(t.tensor, stored->tensor)) << name << " " << t.name << " " << seed;
        EXPECT_EQ(t.label == "FLOAT", stored->label == "FLOAT") << t.name;
      }
      const Descriptor descriptor = read_descriptor(file);
      EXPECT_EQ(descriptor_text(descriptor), file_text(file)) << name;
      ++tried;
    }
  }
  EXPECT_GE(tried, 18 * 10);
}

// A float model of one linear of 8 x 64 beside a norm.
WeightStore one_linear_model(const TestFolder& folder) {
  std::mt19937_64 random(47);
  write_weights(folder / "m.safetensors",
                {{"0.weight", "", normal_tensor(DType::kBF16, {8, 64}, random)},
                 {"0.bias", "", normal_tensor(DType::kBF16, {8}, random)},
                 {"norm.weight", "", normal_tensor(DType::kBF16, {8}, random)}});
  return WeightStore::open_file(folder / "m.safetensors");
}

// What needs weights alone, aliases included.
std::vector<const AlgorithmRow*> written_rows() {
  std::vector<const AlgorithmRow*> rows;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.contract != nullptr && !row.parameters.needs_statistics) rows.push_back(&row);
  }
  EXPECT_GE(rows.size(), 9u);
  return rows;
}

// The descriptor of the model by this algorithm.
fs::path exported(const TestFolder& folder, const AlgorithmRow& row, Compat compat) {
  const bool upstream = compat == Compat::kUpstream;
  const fs::path out = folder / (std::string(upstream ? "u_" : "q_") + std::string(row.name));
  export_quantized(one_linear_model(folder), out,
                   {.algorithm = std::string(row.name), .preset = "none", .compat = compat},
                   context());
  return out / descriptor_file_name(std::string(row.canonical), std::nullopt);
}

void expect_same_bytes_again(const fs::path& descriptor, const AlgorithmRow& row) {
  const fs::path weights =
      descriptor.parent_path() / weight_file_name(std::string(row.canonical), std::nullopt);
  for (const fs::path& file : {descriptor, weights}) {
    ASSERT_TRUE(fs::exists(file)) << file;
    // Upstream writes 0600 and reads no more than 0640, which is what we write.
    EXPECT_EQ(fs::status(file).permissions() & ~fs::perms{0640}, fs::perms::none) << file;
  }
  const auto count =
      std::distance(fs::directory_iterator(descriptor.parent_path()), fs::directory_iterator());
  EXPECT_EQ(count, 2) << row.name << ": one descriptor, one weight file";
  EXPECT_EQ(*read_descriptor(descriptor).label("0.bias"), "FLOAT");
  EXPECT_EQ(descriptor_text(read_descriptor(descriptor)), file_text(descriptor));

  const WeightStore store = WeightStore::open_file(weights);
  LayerTensors tensors;
  for (const TensorInfo& info : store.tensors())
    tensors.push_back({info.name, "", store.read(info.name)});
  for (const NamedTensor& t : rewritten(descriptor, tensors)) {
    EXPECT_TRUE(same_bytes(t.tensor, store.read(t.name))) << row.name << " " << t.name;
    EXPECT_EQ(t.label, *read_descriptor(descriptor).label(t.name));
  }
}

TEST(ConformanceEitherWay, Case47_WhatWeWriteIsReadAndWrittenByteForByte) {
  const TestFolder folder;
  for (const AlgorithmRow* row : written_rows()) {
    for (const QuantizeOptions& options : kEitherWay) {
      expect_same_bytes_again(exported(folder, *row, options.compat), *row);
    }
  }
}

// By either rule, to either reader. Upstream's own reads most of it: docs/compatibility.md,
// tools/oracle/test_upstream_loader.py.
TEST(ConformanceEitherWay, Case48_WhatWeWriteLoads) {
  const TestFolder folder;
  for (const AlgorithmRow* row : written_rows()) {
    for (const QuantizeOptions& writer : kEitherWay) {
      const fs::path file = exported(folder, *row, writer.compat);
      for (const QuantizeOptions& reader : kEitherWay) {
        OneLinear model(8, 64, true);
        const Report report = quantize(model.map, file, reader, context());
        EXPECT_EQ(model.linear.algorithm(), row->canonical);
        EXPECT_EQ(report.quantized(), 1) << row->name;
        EXPECT_TRUE(report.unmatched.empty()) << row->name;
      }
    }
  }
}

// q_rot and k_rot of any dtype, and other keys of a descriptor, come back as they were.
TEST(Conformance, Case47_AttentionsAreReadAndWrittenByteForByte) {
  const Tensor rotation = widened(make_rotation(64, kRotationSeed));
  const std::vector<float> values(rotation.data<float>(), rotation.data<float>() + rotation.size());
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const TestFolder folder;
    QuantizedFixture files;
    files.type = "FP8_DYNAMIC";
    files.tensors = {{"A.q_rot", "FLOAT", float_tensor(dtype, {64, 64}, values)},
                     {"A.k_rot", "FLOAT", float_tensor(DType::kBF16, {64, 64}, values)}};
    files.extra_labels = {{"A.quant_type", "FP8_DYNAMIC"}};
    const fs::path file = files.write(folder.path());
    const QuantizedFolder opened = open_quantized(file);
    require_no_problems(opened);
    const AttentionEntry& entry = opened.attentions.at(0);
    const LayerTensors back =
        rewrite_attention_params(*entry.algorithm, read_attention(opened, entry),
                                 {.layer = "A", .prefix = "A", .file = {}, .tensor = {}});
    ASSERT_EQ(back.size(), 2u);
    for (size_t i = 0; i < back.size(); ++i) {
      EXPECT_EQ(back[i].name, files.tensors[i].name);
      EXPECT_TRUE(same_bytes(back[i].tensor, files.tensors[i].tensor));
    }
    EXPECT_EQ(descriptor_text(read_descriptor(file)), file_text(file));
  }
}

TEST(ConformanceUpstream, Case47_UpstreamsRulesAreWrittenAndSaidSo) {
  const TestFolder folder;
  const AlgorithmRow& row = *find_algorithm("W4A4_DYNAMIC");
  const fs::path descriptor = exported(folder, row, Compat::kUpstream);
  EXPECT_EQ(read_descriptor(descriptor).facts.at(facts::kCompat), "upstream");
  const WeightStore store = WeightStore::open_file(descriptor.parent_path() /
                                                   "quant_model_weight_w4a4_dynamic.safetensors");
  EXPECT_EQ(store.info("0.weight").dtype, DType::kI8);
  EXPECT_EQ(store.info("0.weight").shape, (Shape{8, 64}));
  EXPECT_FALSE(
      read_descriptor(exported(folder, row, Compat::kNone)).facts.contains(facts::kCompat));
}

}  // namespace
}  // namespace mezzotint::conformance
