#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "cli/cli_testing.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;
using testing::CliResult;
using testing::contains;
using testing::run;
using testing::run_json;

class InspectVerb : public testing::SmallModelTest {
 protected:
  std::string quantized() const {
    EXPECT_EQ(run({"quantize", model_, "-o", path("q"), "--algo", "w8a8_dynamic", "-q"}).code, 0);
    return path("q");
  }
  // A safetensors file of one tensor of bytes.
  std::string file_with(const std::string& name, const std::string& tensor,
                        DType dtype = DType::kU8) const {
    Writer writer(path(name), {{tensor, dtype, {4}}});
    writer.put(tensor, Tensor::copy_of<uint8_t>(std::vector<uint8_t>(4), {4}));
    writer.finish();
    return path(name);
  }
};

TEST_F(InspectVerb, DescribesAFloatFile) {
  const CliResult result = run({"inspect", model_});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, model_ + ": float safetensors"));
  EXPECT_TRUE(contains(result.out, "8 tensors, 25 280 values, 50.7 kB"));
  EXPECT_TRUE(contains(result.out, "7 BF16 (50.4 kB), 1 F32 (256 B)"));
  EXPECT_TRUE(contains(result.out, "FLOAT           5   25 088  50.2 kB            16.00"));
  EXPECT_TRUE(contains(result.out, "--check reads every value"));
}

TEST_F(InspectVerb, DescribesAQuantizedFolder) {
  const CliResult result = run({"inspect", quantized(), "--check", "--layers"});
  ASSERT_EQ(result.code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "MindIE SD quantized folder"));
  EXPECT_TRUE(contains(result.out, "model_quant_type: W8A8_DYNAMIC"));
  EXPECT_TRUE(contains(result.out, "W8A8_DYNAMIC       4   24 576"));
  EXPECT_TRUE(contains(result.out, "K = 8 is below 32"));
  EXPECT_TRUE(contains(result.out, "checked every tensor: no problem"));
}

TEST_F(InspectVerb, WarnsOfFilesThatAnyoneMayWrite) {
  const fs::path folder = quantized();
  EXPECT_FALSE(contains(run({"inspect", folder.string()}).out, "warning:"));
  for (const char* name : {"quant_model_description_w8a8_dynamic.json",
                           "quant_model_weight_w8a8_dynamic.safetensors"}) {
    fs::permissions(folder / name, fs::perms{0666});
  }
  const CliResult result = run({"inspect", folder.string(), "--check"});
  EXPECT_EQ(result.code, 0) << "a warning is no problem";
  EXPECT_TRUE(contains(result.out, "warning: anyone may write " + folder.string()));
  EXPECT_EQ(run_json({"inspect", folder.string()})["warnings"].size(), 2u);
}

TEST_F(InspectVerb, JsonHoldsTheSame) {
  const nlohmann::json document = run_json({"inspect", quantized(), "--check"});
  EXPECT_EQ(document["dialect"], "MindIE SD quantized folder");
  EXPECT_EQ(document["checked"], true);
  EXPECT_EQ(document["layers"].size(), 5u);
  EXPECT_EQ(document["problems"].size(), 0u);
}

TEST_F(InspectVerb, CheckFindsOneFlippedBit) {
  const std::string weights = quantized() + "/quant_model_weight_w8a8_dynamic.safetensors";
  std::string bytes = file_text(weights);
  bytes[bytes.size() - 1] ^= 1;
  write_text(weights, bytes);
  const CliResult result = run({"inspect", path("q"), "--check"});
  EXPECT_EQ(result.code, 3) << result.out;
  EXPECT_TRUE(contains(result.out, "problem: the content is not what was written: expected run "));
  EXPECT_TRUE(contains(result.out, "1 problem\n"));
}

TEST_F(InspectVerb, CheckNamesATensorThatIsMissing) {
  const std::string folder = quantized();
  const fs::path descriptor = fs::path(folder) / "quant_model_description_w8a8_dynamic.json";
  std::string text = file_text(descriptor);
  const std::string name = "\"norm.weight\"";
  text.replace(text.find(name), name.size(), "\"nrom.weight\"");
  write_text(descriptor, text);
  const CliResult result = run({"inspect", folder, "--check"});
  EXPECT_EQ(result.code, 3);
  EXPECT_TRUE(
      contains(result.out, "the descriptor names a tensor that is missing\n  tensor: nrom.weight"));
  EXPECT_TRUE(
      contains(result.out, "a tensor has no label in the descriptor\n  tensor: norm.weight"));
  EXPECT_TRUE(contains(result.out, "2 problems"));
  EXPECT_EQ(run({"inspect", folder}).code, 0);  // looking is no error
}

TEST_F(InspectVerb, CheckFindsNonFiniteValues) {
  Writer writer(path("nan.safetensors"), {{"a.weight", DType::kF32, {2, 3}}});
  const std::vector<float> values = {1, 2, 3, 4, std::numeric_limits<float>::infinity(), 6};
  writer.put(std::string("a.weight"), Tensor::copy_of<float>(values, {2, 3}));
  writer.finish();
  const CliResult result = run({"inspect", path("nan.safetensors"), "--check"});
  EXPECT_EQ(result.code, 3);
  EXPECT_TRUE(
      contains(result.out, "expected finite values, got 1 NaN or infinite, the first at [1,1]"));
}

TEST_F(InspectVerb, NamesTheDialectsOfOtherTools) {
  EXPECT_TRUE(
      contains(run({"inspect", file_with("a.safetensors", "x.comfy_quant")}).out, "ComfyUI"));
  EXPECT_TRUE(contains(run({"inspect", file_with("b.safetensors", "x.wscales")}).out, "nunchaku"));
  EXPECT_TRUE(contains(run({"inspect", file_with("c.safetensors", "x.weight_packed")}).out,
                       "compressed-tensors"));
  EXPECT_TRUE(contains(run({"inspect", file_with("d.safetensors", "x.weight_scale")}).out,
                       "quantized weights without their descriptor"));
}

TEST_F(InspectVerb, RefusesWhatItCannotRead) {
  write_text(path("m.gguf"), "GGUF\x03");
  write_text(path("m.pth"), "PK\x03\x04zip");
  write_text(path("m.safetensors"), "version https://git-lfs.github.com/spec/v1\n");
  write_text(path("short.safetensors"), "abc");
  write_text(path("long.safetensors"), std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
  write_text(path("bad.json"), "{\"a\": ");
  fs::create_directories(path("empty"));
  testing::expect_refused({
      {{"inspect", path("m.gguf")}, 4, "got a GGUF file"},
      {{"inspect", path("m.pth")}, 4, "a pickle: never opened"},
      {{"inspect", path("m.safetensors")}, 4, "Git LFS pointer"},
      {{"inspect", path("short.safetensors")}, 3, "short.safetensors"},
      {{"inspect", path("long.safetensors")}, 3, "long.safetensors"},
      {{"inspect", path("bad.json")}, 3, "bad.json"},
      {{"inspect", path("empty")}, 3, "empty"},
      {{"inspect", path("nowhere")}, 3, "no such file or folder"},
      {{"inspect", path("nowhere"), "--check"}, 3, "no such file or folder"},
  });
}

}  // namespace
}  // namespace mezzotint::cli
