#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "nn/quantize_fixture.h"
#include "solve/hadamard.h"

namespace mezzotint {
namespace {

// --- every single corruption: the right code, the right words, and an untouched model
// -------------

struct Corruption {
  const char* name;
  std::function<void(QuantizedFixture&)> corrupt;
  ErrorCode code;
  std::vector<std::string> words;  // all stand in the message
};

std::vector<Corruption> corruptions() {
  const std::string a = "blocks.0.a";
  const std::string b = "blocks.0.b.linear";
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  return {
      {"weight missing",
       [=](auto& f) {
         f.erase(a + ".weight");
         f.extra_labels = {{a + ".weight", "W8A8_DYNAMIC"}};
       },
       ErrorCode::kInput,
       {"weight is missing", "expected [6,32]", "layer blocks.0.a", "tensor blocks.0.a.weight",
        "quant_model_weight_w8a8_dynamic.safetensors"}},
      {"scale missing",
       [=](auto& f) { f.erase(a + ".weight_scale"); },
       ErrorCode::kInput,
       {"weight_scale is missing", "expected [6,1] or [6] or [1,6]", "layer blocks.0.a"}},
      {"bias missing",
       [=](auto& f) { f.erase(a + ".bias"); },  // case 14
       ErrorCode::kInput,
       {"bias is missing", "a bias, as the model's layer has one", "layer blocks.0.a"}},
      {"float weight",
       [=](auto& f) {
         std::mt19937_64 r(1);
         f.at(a + ".weight").tensor = normal_tensor(DType::kBF16, {6, 32}, r);
       },
       ErrorCode::kInput,
       {"weight has the wrong dtype: expected I8, got BF16", "layer blocks.0.a"}},
      {"integer scale",
       [=](auto& f) {
         f.at(a + ".weight_scale").tensor =
             Tensor::copy_of<int32_t>(std::vector<int32_t>(6, 1), {6, 1});
       },
       ErrorCode::kInput,
       {"weight_scale has the wrong dtype: expected F32 or BF16 or F16, got I32"}},
      {"fused weight",
       [=](auto& f) {
         f.at(a + ".weight").tensor =
             Tensor::copy_of<int8_t>(std::vector<int8_t>(18 * 32, 1), {18, 32});
       },
       ErrorCode::kInput,
       {"weight has the wrong shape: expected [6,32], got [18,32]", "layer blocks.0.a"}},
      {"long scale",
       [=](auto& f) {
         f.at(a + ".weight_scale").tensor =
             float_tensor(DType::kF32, {18, 1}, std::vector<float>(18, 1));
       },
       ErrorCode::kInput,
       {"weight_scale has the wrong shape: expected [6,1] or [6] or [1,6] or [6,G]", "got [18,1]"}},
      {"long bias",
       [=](auto& f) {
         f.at(a + ".bias").tensor = float_tensor(DType::kF32, {7}, std::vector<float>(7, 1));
       },
       ErrorCode::kInput,
       {"bias has the wrong shape: expected [6], got [7]"}},
      {"short smoothing",
       [](auto& f) {
         f.at("blocks.0.b.div.mul_scale").tensor =
             float_tensor(DType::kF32, {47}, std::vector<float>(47, 1));
       },
       ErrorCode::kInput,
       {"div.mul_scale has the wrong shape", "[48]", "got [47]", "layer blocks.0.b"}},
      {"nan scale",
       [=](auto& f) { set_floats(f, a + ".weight_scale", 4, kNan); },
       ErrorCode::kInput,
       {"weight_scale holds a value that cannot be right: expected finite values >= 0, got nan at "
        "4"}},
      {"infinite scale",
       [=](auto& f) { set_floats(f, b + ".weight_scale", 0, kInf); },
       ErrorCode::kInput,
       {"got inf at 0", "layer blocks.0.b", "tensor blocks.0.b.linear.weight_scale"}},
      {"negative scale",
       [=](auto& f) { set_floats(f, a + ".weight_scale", 2, -0.5f); },
       ErrorCode::kInput,
       {"got -0.5 at 2"}},
      {"nan bias",
       [=](auto& f) { set_floats(f, a + ".bias", 1, kNan); },
       ErrorCode::kInput,
       {"bias holds a value that cannot be right", "got nan at 1"}},
      {"grouped scales",
       [=](auto& f) {
         f.at(a + ".weight_scale").tensor =
             float_tensor(DType::kF32, {6, 4}, std::vector<float>(24, 1));
       },
       ErrorCode::kInput,
       {"weight_offset has other groups than the layer's scales: expected [6,4], got [6,1]"}},
      {"groups of no size",
       [=](auto& f) {
         f.at(a + ".weight_scale").tensor =
             float_tensor(DType::kF32, {6, 5}, std::vector<float>(30, 1));
       },
       ErrorCode::kInput,
       {"weight_scale has the wrong shape", "got [6,5]"}},
      {"infinite offset",
       [=](auto& f) {
         f.erase(b + ".weight_offset");
         f.tensors.push_back({b + ".weight_offset", "W8A16",
                              float_tensor(DType::kF32, {5, 1}, {0, 0, kInf, 0, 0})});
       },
       ErrorCode::kInput,
       {"weight_offset holds a value that cannot be right", "got inf at 2", "layer blocks.0.b"}},
      {"half a low rank",
       [](auto& f) {
         std::mt19937_64 r(1);
         f.tensors.push_back(
             {"blocks.0.a.svd_lowrank_l1", "FLOAT", normal_tensor(DType::kBF16, {4, 32}, r)});
       },
       ErrorCode::kInput,
       {"svd_lowrank_l2 is missing", "both factors of the low-rank branch", "layer blocks.0.a"}},
      {"unknown label",
       [=](auto& f) { relabel(f, a, "W9A9"); },  // case 6
       ErrorCode::kUnsupported,
       {"unknown algorithm", "got W9A9", "layer blocks.0.a", "did you mean",
        "quant_model_description"}},
      {"label of another width",
       [=](auto& f) { relabel(f, a, "W4A16_AWQ"); },
       ErrorCode::kInput,
       {"weight holds a code that cannot be right: expected int4 codes of [-8, 7]",
        "layer blocks.0.a"}},
      {"foreign label",
       [=](auto& f) { relabel(f, a, "NF4"); },
       ErrorCode::kUnsupported,
       {"algorithm NF4 is not served by this version", "layer blocks.0.a"}},
      {"two labels",
       [=](auto& f) { f.at(a + ".weight_scale").label = "W8A16"; },
       ErrorCode::kInput,
       {"the labels of one layer contradict: expected W8A8_DYNAMIC as for blocks.0.a.weight, got "
        "W8A16"}},
      {"float weight label",
       [=](auto& f) { f.at(a + ".weight").label = "FLOAT"; },
       ErrorCode::kInput,
       {"the labels of one layer contradict", "got FLOAT", "layer blocks.0.a"}},
      {"label on a foreign tensor",
       [](auto& f) {
         f.tensors.push_back({"blocks.0.a.deq_scale", "W8A8_DYNAMIC",
                              float_tensor(DType::kF32, {6}, std::vector<float>(6, 1))});
       },
       ErrorCode::kInput,
       {"a label on a tensor it cannot describe", "tensor blocks.0.a.deq_scale"}},
      {"no such linear",
       [](auto& f) {
         std::mt19937_64 r(1);
         for (NamedTensor& t :
              make_random_layer(*find_algorithm("W8A16"), "blocks.0.c", {.dims = {4, 32}}, r))
           f.tensors.push_back(t);
       },
       ErrorCode::kStrict,
       {"no linear of the model answers", "layer blocks.0.c", "did you mean", "blocks.0.a"}},
      {"smoothing missing",
       [](auto& f) { f.erase("blocks.0.b.div.mul_scale"); },  // case 15
       ErrorCode::kStrict,
       {"layer blocks.0.b.linear", "blocks.0.b.div.mul_scale is missing from the weight file"}},
  };
}

std::vector<Corruption> attention_corruptions() {
  const std::string q_rot = "blocks.0.attn.q_rot";
  const std::string k_rot = "blocks.0.attn.k_rot";
  const auto relabelled = [](const char* label) {
    return [label](QuantizedFixture& f) { f.extra_labels = {{"blocks.0.attn.quant_type", label}}; };
  };
  return {
      {"k_rot missing",
       [=](auto& f) { f.erase(k_rot); },  // case 43
       ErrorCode::kInput,
       {"k_rot is missing", "expected [16,16]", "layer blocks.0.attn", "tensor " + k_rot}},
      {"rotation of another head_dim",
       [=](auto& f) { f.at(q_rot).tensor = make_rotation(8, 1); },
       ErrorCode::kInput,
       {"q_rot has the wrong shape: expected [16,16], got [8,8]", "layer blocks.0.attn"}},
      {"half a rotation",
       [=](auto& f) {
         f.at(k_rot).tensor = float_tensor(DType::kF32, {16, 8}, std::vector<float>(128, 1));
       },
       ErrorCode::kInput,
       {"k_rot has the wrong shape: expected [16,16], got [16,8]"}},
      {"integer rotation",
       [=](auto& f) {
         f.at(q_rot).tensor = Tensor::copy_of<int8_t>(std::vector<int8_t>(256, 1), {16, 16});
       },
       ErrorCode::kInput,
       {"q_rot has the wrong dtype: expected BF16 or F32 or F16, got I8"}},
      {"nan rotation",
       [=](auto& f) { set_floats(f, q_rot, 17, std::numeric_limits<float>::quiet_NaN()); },
       ErrorCode::kInput,
       {"q_rot holds a value that cannot be right", "got nan at 17"}},
      {"one flipped sign",
       [=](auto& f) { set_floats(f, k_rot, 3, -float_at(f, k_rot, 3)); },
       ErrorCode::kInput,
       {"the rotations change the scores: expected q_rot k_rot^T = I, got a difference of 0.125",
        "layer blocks.0.attn"}},
      {"unknown algorithm",
       relabelled("FP8"),
       ErrorCode::kUnsupported,
       {"unknown algorithm of attention", "got FP8", "layer blocks.0.attn",
        "did you mean "
        "FP8_DYNAMIC"}},
      {"planned algorithm",
       relabelled("MXFP8_DYNAMIC"),
       ErrorCode::kUnsupported,
       {"algorithm MXFP8_DYNAMIC is not served by this version", "layer blocks.0.attn"}},
      {"algorithm of linears",
       relabelled("W8A8_DYNAMIC"),
       ErrorCode::kUnsupported,
       {"W8A8_DYNAMIC is an algorithm of linears, not of attention"}},
      {"no such attention",
       [](auto& f) { add_attention(f, "blocks.1.attn"); },
       ErrorCode::kStrict,
       {"no attention of the model answers", "layer blocks.1.attn", "did you mean blocks.0.attn"}},
      {"attention label on a weight",
       [](auto& f) { f.at("blocks.0.a.weight").label = "FP8_DYNAMIC"; },
       ErrorCode::kInput,
       {"a label on a tensor it cannot describe", "got FP8_DYNAMIC"}},
      {"attention label on a linear as a whole",
       [](auto& f) {
         for (NamedTensor& t : f.tensors) {
           if (t.name.starts_with("blocks.0.a.")) t.label = "FLOAT";
         }
         f.extra_labels.emplace_back("blocks.0.a", "FP8_DYNAMIC");
       },
       ErrorCode::kStrict,
       {"no attention of the model answers", "layer blocks.0.a"}},
  };
}

void expect_refused(const std::vector<Corruption>& corruptions, const QuantizedFixture& valid) {
  TestModel model;
  std::vector<Tensor> before;
  for (size_t i = 0; i < 3; ++i) before.push_back(model.output(i));
  for (const Corruption& corruption : corruptions) {
    SCOPED_TRACE(corruption.name);
    TestFolder folder;
    QuantizedFixture files = valid;
    corruption.corrupt(files);
    const std::filesystem::path descriptor = files.write(folder.path());
    const Error error = error_of([&] { quantize(model.map, descriptor, {}, context()); });
    EXPECT_EQ(error.code(), corruption.code) << error.what();
    for (const std::string& word : corruption.words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "'" << word << "' is not in: " << error.what();
    }
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(model.linears[i].algorithm(), "FLOAT");
      EXPECT_TRUE(same_bytes(model.output(i), before[i]));
    }
    EXPECT_EQ(model.attention.algorithm(), "FLOAT");
  }
}

TEST(Quantize, EveryCorruptionIsNamedAndLeavesTheModelAsItWas) {
  expect_refused(corruptions(), fixture());
}

TEST(Quantize, EveryCorruptionOfAnAttentionIsNamedAndLeavesTheModelAsItWas) {
  QuantizedFixture files = fixture();
  add_attention(files);
  expect_refused(attention_corruptions(), files);
}

}  // namespace
}  // namespace mezzotint
