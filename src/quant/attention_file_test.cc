#include "quant/attention_file.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "quant/file_fixture.h"
#include "solve/hadamard.h"

namespace mezzotint {
namespace {

const AlgorithmRow& fp8() { return served_attention("fp8_dynamic"); }

// The same rotation twice, in the dtypes given.
LayerTensors rotations(int64_t head_dim, DType q_dtype, DType k_dtype) {
  const Tensor wide = widened(make_rotation(head_dim, 99));
  const std::vector<float> values(wide.data<float>(), wide.data<float>() + wide.size());
  return {{"b.attn.q_rot", "FLOAT", float_tensor(q_dtype, wide.shape(), values)},
          {"b.attn.k_rot", "FLOAT", float_tensor(k_dtype, wide.shape(), values)}};
}

LayerFile file_of(const LayerTensors& tensors, int64_t head_dim) {
  return {.layer = "b.attn",
          .prefix = "b.attn",
          .file = "memory",
          .tensor = [tensors](const std::string& name) -> std::optional<Tensor> {
            const auto it = std::ranges::find(tensors, name, &NamedTensor::name);
            return it == tensors.end() ? std::nullopt : std::optional<Tensor>(it->tensor);
          },
          .dims = {.head_dim = head_dim}};
}

constexpr DType kDtypes[] = {DType::kBF16, DType::kF32, DType::kF16};
constexpr int64_t kHeadDims[] = {8, 64, 72, 96, 128};  // 72 and 96: Paley

TEST(AttentionFile, EveryFormIsReadAndWrittenByteForByte) {
  for (const int64_t head_dim : kHeadDims) {
    for (const DType q_dtype : kDtypes) {
      for (const DType k_dtype : kDtypes) {
        const LayerTensors tensors = rotations(head_dim, q_dtype, k_dtype);
        for (const int64_t known : {int64_t{0}, head_dim}) {
          const LayerFile file = file_of(tensors, known);
          const AttentionParams params = read_attention_params(fp8(), file);
          EXPECT_EQ(params.algorithm, "FP8_DYNAMIC");
          const LayerTensors back = rewrite_attention_params(fp8(), params, file);
          ASSERT_EQ(back.size(), tensors.size());
          for (size_t i = 0; i < back.size(); ++i) {
            EXPECT_EQ(back[i].name, tensors[i].name);
            EXPECT_TRUE(same_bytes(back[i].tensor, tensors[i].tensor)) << head_dim;
          }
        }
      }
    }
  }
}

TEST(AttentionFile, WhatIsWrittenIsWhatWasPlannedAndOneRotation) {
  for (int64_t head_dim = 1; head_dim <= 128; ++head_dim) {
    const LayerTensors written = write_attention_params(fp8(), "b.attn", head_dim);
    const std::vector<PlannedTensor> planned = plan_attention_tensors(fp8(), "b.attn", head_dim);
    ASSERT_EQ(written.size(), 2u);
    ASSERT_EQ(planned.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(written[i].name, planned[i].tensor.name);
      EXPECT_EQ(written[i].label, "FLOAT");
      EXPECT_EQ(planned[i].label, "FLOAT");
      EXPECT_EQ(written[i].tensor.dtype(), DType::kBF16);
      EXPECT_EQ(written[i].tensor.dtype(), planned[i].tensor.dtype);
      EXPECT_EQ(written[i].tensor.shape(), planned[i].tensor.shape);
      EXPECT_TRUE(same_bytes(written[i].tensor, make_rotation(head_dim, kRotationSeed)));
    }
    EXPECT_NO_THROW(read_attention_params(fp8(), file_of(written, 0))) << head_dim;
  }
}

TEST(AttentionFile, AnyFlippedSignIsFound) {
  for (const int64_t head_dim : kHeadDims) {
    const LayerTensors tensors = rotations(head_dim, DType::kBF16, DType::kBF16);
    for (const int64_t at : {int64_t{0}, head_dim + 1, head_dim * head_dim - 1}) {
      LayerTensors broken = tensors;
      const Tensor wide = widened(broken[1].tensor);
      std::vector<float> values(wide.data<float>(), wide.data<float>() + wide.size());
      values[static_cast<size_t>(at)] *= -1;
      broken[1].tensor = float_tensor(DType::kBF16, wide.shape(), values);
      const Error error =
          error_of([&] { read_attention_params(fp8(), file_of(broken, head_dim)); });
      EXPECT_EQ(error.code(), ErrorCode::kInput) << head_dim << " " << at;
      EXPECT_NE(std::string(error.what()).find("the rotations change the scores"),
                std::string::npos);
    }
  }
}

TEST(AttentionFile, HeadsThatTheOpDoesNotServeAreRefusedBeforeWriting) {
  for (const int64_t head_dim : {int64_t{0}, int64_t{129}}) {
    const Error error = error_of([&] { plan_attention_tensors(fp8(), "b.attn", head_dim); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_EQ(error.details().layer, "b.attn");
  }
}

TEST(AttentionFile, NamesOfOtherAlgorithmsAreErrorsThatHelp) {
  const auto text = [](const char* name) {
    return std::string(error_of([&] { served_attention(name); }).what());
  };
  EXPECT_NE(text("W8A8").find("W8A8 is an algorithm of linears"), std::string::npos);
  EXPECT_NE(text("mxfp4_dynamic").find("MXFP4_DYNAMIC is not served"), std::string::npos);
  EXPECT_NE(text("FP8_DYNAMC").find("did you mean FP8_DYNAMIC"), std::string::npos);
  const Error linear = error_of([] { served_algorithm("fp8_dynamic"); });
  EXPECT_EQ(linear.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(linear.what()).find("FP8_DYNAMIC is an algorithm of attention"),
            std::string::npos);
}

}  // namespace
}  // namespace mezzotint
