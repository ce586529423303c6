#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "mezzotint/quantize.h"
#include "quant/file_fixture.h"
#include "quant/random_layer.h"

namespace mezzotint {
namespace {

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

std::vector<float> floats(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.size()));
  widen_into(t, values);
  return values;
}

TEST(Dequantize, GivesBackNamesDtypesAndBytesOfTheSource) {
  TestFolder folder;
  std::mt19937_64 random(60);
  const LayerTensors source = {{"a.weight", "", normal_tensor(DType::kBF16, {7, 33}, random)},
                               {"a.bias", "", normal_tensor(DType::kF32, {7}, random)},
                               {"b.weight", "", normal_tensor(DType::kF32, {4, 64}, random)},
                               {"b.bias", "", normal_tensor(DType::kBF16, {4}, random)},
                               {"c.weight", "", normal_tensor(DType::kBF16, {3, 32}, random)},
                               {"norm.weight", "", normal_tensor(DType::kF16, {33}, random)}};
  write_weights(folder / "m.safetensors", source);
  export_quantized(WeightStore::open_file(folder / "m.safetensors"), folder / "q",
                   {.algorithm = "w8a8_dynamic", .preset = "none"}, context());
  const Report report = dequantize(folder / "q", folder / "back.safetensors", {}, context());
  EXPECT_TRUE(report.notes.empty());
  EXPECT_EQ(report.layers.size(), 3u);
  const WeightStore back = WeightStore::open_file(folder / "back.safetensors");
  ASSERT_EQ(back.tensors().size(), source.size());
  const WeightStore quantized =
      WeightStore::open_file(folder / "q/quant_model_weight_w8a8_dynamic.safetensors");
  for (const NamedTensor& t : source) {
    const Tensor got = back.read(t.name);
    EXPECT_EQ(got.dtype(), t.tensor.dtype()) << t.name;
    EXPECT_EQ(got.shape(), t.tensor.shape()) << t.name;
    if (t.name.ends_with("bias") || t.name.starts_with("norm")) {
      EXPECT_TRUE(same_bytes(got, t.tensor)) << t.name;
      continue;
    }
    const std::vector<float> scale = floats(quantized.read(t.name + "_scale"));
    const std::vector<float> value = floats(got), exact = floats(t.tensor);
    const size_t k = static_cast<size_t>(t.tensor.dim(1));
    for (size_t i = 0; i < value.size(); ++i) {
      const float step = scale[i / k];
      EXPECT_LE(std::abs(value[i] - exact[i]),
                step * (0.5f + 0.25f) + std::abs(exact[i]) * 0x1p-8f);
    }
  }
}

// y = x E^T + b before x is quantized: smoothing is folded into E.
TEST(Dequantize, FoldsSmoothingIntoTheWeightOfAForeignFile) {
  TestFolder folder;
  std::mt19937_64 random(61);
  QuantizedFixture files;
  files.type = "W8A16";
  files.tensors = make_random_layer(*find_algorithm("W8A16"), "l",
                                    {.dims = {6, 40}, .bias = true, .smoothing = true}, random);
  files.write(folder.path());
  const Report report = dequantize(folder.path(), folder / "back.safetensors", {}, context());
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_NE(report.notes[0].find("weights are written as BF16"), std::string::npos);
  const WeightStore back = WeightStore::open_file(folder / "back.safetensors");
  ASSERT_EQ(back.tensors().size(), 2u);
  const Tensor e = back.read("l.weight");
  EXPECT_EQ(e.dtype(), DType::kBF16);
  const Tensor codes = files.at("l.linear.weight").tensor;
  const auto per_row = [&](const std::string& name) {
    std::vector<float> values(6, 0.0f);
    for (const NamedTensor& t : files.tensors) {
      if (t.name != name) continue;
      values = floats(t.tensor);
      if (values.size() == 1) values.resize(6, values[0]);
    }
    return values;
  };
  const std::vector<float> scale = per_row("l.linear.weight_scale");
  const std::vector<float> offset = per_row("l.linear.weight_offset");
  const std::vector<float> mul = floats(files.at("l.div.mul_scale").tensor);
  const std::vector<float> value = floats(e);
  int64_t checked = 0;
  for (size_t i = 0; i < value.size(); ++i) {
    const double code = codes.data<int8_t>()[i] - static_cast<double>(offset[i / 40]);
    const double exact = code * scale[i / 40] * mul[i % 40];
    EXPECT_LE(std::abs(value[i] - exact), 0x1.01p-8 * std::abs(exact));
    ++checked;
  }
  EXPECT_EQ(checked, 240);
  EXPECT_TRUE(same_bytes(back.read("l.bias"), files.at("l.linear.bias").tensor));
}

TEST(Dequantize, AnExistingFileIsRefusedUnlessOverwrite) {
  TestFolder folder;
  std::mt19937_64 random(62);
  QuantizedFixture files;
  files.tensors =
      make_random_layer(*find_algorithm("W8A8_DYNAMIC"), "l", {.dims = {6, 40}}, random);
  files.write(folder.path());
  write_text(folder / "back.safetensors", "mine");
  EXPECT_EQ(error_of([&] {
              dequantize(folder.path(), folder / "back.safetensors", {}, context());
            }).code(),
            ErrorCode::kUsage);
  EXPECT_EQ(file_text(folder / "back.safetensors"), "mine");
  dequantize(folder.path(), folder / "back.safetensors", {.progress = {}, .overwrite = true},
             context());
  EXPECT_EQ(WeightStore::open_file(folder / "back.safetensors").tensors().size(), 2u);
}

TEST(Dequantize, DamageIsFoundBeforeAnythingIsWritten) {
  TestFolder folder;
  std::mt19937_64 random(63);
  QuantizedFixture files;
  files.tensors =
      make_random_layer(*find_algorithm("W8A8_DYNAMIC"), "l", {.dims = {6, 40}}, random);
  files.erase("l.weight_scale");
  files.write(folder.path());
  EXPECT_EQ(error_of([&] {
              dequantize(folder.path(), folder / "back.safetensors", {}, context());
            }).code(),
            ErrorCode::kInput);
  EXPECT_FALSE(std::filesystem::exists(folder / "back.safetensors"));
}

}  // namespace
}  // namespace mezzotint
