// Conformance cases 30 to 32: denoising steps. TimestepPolicy stands for upstream's
// TimestepPolicyConfig, ExecContext::at_step for its TimestepManager; what only a dynamic type
// system can get wrong ("1" for a step, a tuple for a range) does not compile here.
#include <gtest/gtest.h>

#include "conformance/fixture.h"

namespace mezzotint::conformance {
namespace {

constexpr int64_t kSteps = 4;
constexpr int64_t kN = 6;
constexpr int64_t kK = 32;

LayerTensors timestep_layer() {
  return random_layer_of("W8A8_TIMESTEP", "0",
                         {.dims = {.n = kN, .k = kK, .steps = kSteps}, .bias = true});
}

const Tensor& tensor_named(const LayerTensors& tensors, const std::string& suffix) {
  for (const NamedTensor& t : tensors) {
    if (t.name == "0." + suffix) return t.tensor;
  }
  throw Error(ErrorCode::kInternal, "no tensor " + suffix);
}

// Elements [row * count, (row + 1) * count) of a stacked tensor.
Tensor row_of(const Tensor& stacked, int64_t row, int64_t count) {
  const int64_t bytes = stacked.byte_size() / kSteps;
  return Tensor(stacked.dtype(), {count}, stacked.buffer().slice(row * bytes, bytes))
      .reshaped({count});
}

// The static layer of one calibrated step.
LayerTensors static_layer_of(const LayerTensors& tensors, int64_t step) {
  const auto copied = [&](const char* suffix, int64_t count) {
    const Tensor row = row_of(tensor_named(tensors, suffix), step, count);
    Tensor copy = Tensor::allocate(row.dtype(), row.shape());
    std::memcpy(copy.buffer().mutable_data(), row.raw(), static_cast<size_t>(row.byte_size()));
    return copy;
  };
  return {{"0.weight", "W8A8", tensor_named(tensors, "weight")},
          {"0.quant_bias", "W8A8", copied("quant_bias", kN)},
          {"0.input_scale", "W8A8", copied("input_scale", 1)},
          {"0.input_offset", "W8A8", copied("input_offset", 1)},
          {"0.deq_scale", "W8A8", copied("deq_scale", kN)},
          {"0.bias", "FLOAT", tensor_named(tensors, "bias")}};
}

LayerTensors dynamic_layer_of(const LayerTensors& tensors) {
  return {{"0.weight", "W8A8_DYNAMIC", tensor_named(tensors, "weight")},
          {"0.weight_scale", "W8A8_DYNAMIC", tensor_named(tensors, "weight_scale")},
          {"0.bias", "FLOAT", tensor_named(tensors, "bias")}};
}

Tensor quantized_outputs(const std::string& algorithm, const LayerTensors& tensors,
                         const QuantizeOptions& options, int step) {
  TestFolder folder;
  OneLinear model(kN, kK, true);
  quantize(model.map, write_layer(folder, algorithm, tensors), options, context());
  std::mt19937_64 random(30);
  return outputs(model.linear, normal_tensor(DType::kF32, {3, kK}, random),
                 context().at_step(step));
}

TEST(Conformance, Case30_AStaticStepRunsWithItsRowAllOthersAreDynamic) {
  const LayerTensors tensors = timestep_layer();
  TimestepPolicy policy;
  policy.set(2, 2, StepMode::kStatic);
  const QuantizeOptions options = {.timestep_policy = policy};
  const auto at = [&](int step) {
    return quantized_outputs("W8A8_TIMESTEP", tensors, options, step);
  };
  const Tensor dynamic = quantized_outputs("W8A8_DYNAMIC", dynamic_layer_of(tensors), {}, -1);
  EXPECT_TRUE(same_bytes(at(2), quantized_outputs("W8A8", static_layer_of(tensors, 2), {}, -1)));
  EXPECT_FALSE(same_bytes(at(2), quantized_outputs("W8A8", static_layer_of(tensors, 1), {}, -1)));
  EXPECT_TRUE(same_bytes(at(0), dynamic));
  EXPECT_TRUE(same_bytes(at(-1), dynamic)) << "no step is set";
  for (const int step : {4, 5}) {
    const Error error = error_of([&] { at(step); });
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("0..3"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("step " + std::to_string(step)), std::string::npos);
  }
}

TEST(ConformanceUpstream, Case30_UpstreamRefusesTheStepBehindTheLastToo) {
  const LayerTensors tensors = timestep_layer();
  TimestepPolicy policy(StepMode::kStatic);
  const QuantizeOptions options = {.timestep_policy = policy, .compat = Compat::kUpstream};
  EXPECT_TRUE(same_bytes(quantized_outputs("W8A8_TIMESTEP", tensors, options, 2),
                         quantized_outputs("W8A8", static_layer_of(tensors, 2), kUpstream, -1)));
  EXPECT_EQ(error_of([&] { quantized_outputs("W8A8_TIMESTEP", tensors, options, 4); }).code(),
            ErrorCode::kUsage);
}

// metadata.mezzotint.timestep_policy, where an exporter keeps the split it calibrated.
TEST(Conformance, Case30_TheDescriptorsPolicyHoldsUnlessAnotherIsGiven) {
  const LayerTensors tensors = timestep_layer();
  const Tensor dynamic = quantized_outputs("W8A8_DYNAMIC", dynamic_layer_of(tensors), {}, -1);
  const Tensor row = quantized_outputs("W8A8", static_layer_of(tensors, 2), {}, -1);
  TestFolder folder;
  const std::filesystem::path file = write_layer(folder, "W8A8_TIMESTEP", tensors);
  const auto store = [&](const char* policy) {
    Descriptor descriptor = read_descriptor(file);
    descriptor.facts[facts::kTimestepPolicy] = policy;
    write_descriptor(file, descriptor);
  };
  const auto at = [&](int step, const QuantizeOptions& options) {
    OneLinear model(kN, kK, true);
    quantize(model.map, file, options, context());
    std::mt19937_64 random(30);
    return outputs(model.linear, normal_tensor(DType::kF32, {3, kK}, random),
                   context().at_step(step));
  };
  store("dynamic 0-1");
  EXPECT_TRUE(same_bytes(at(1, {}), dynamic));
  EXPECT_TRUE(same_bytes(at(2, {}), row));
  EXPECT_TRUE(same_bytes(at(2, {.timestep_policy = TimestepPolicy()}), dynamic));
  store("sometimes");
  const Error error = error_of([&] { at(2, {}); });
  EXPECT_EQ(error.code(), ErrorCode::kInput);
  EXPECT_EQ(error.details().file, file.string());
}

TEST(ConformanceEitherWay, Case31_ALaterCallWins) {
  TimestepPolicy policy;
  policy.set(0, 2, StepMode::kStatic);
  policy.set(1, 1, StepMode::kDynamic);
  const StepMode modes[] = {StepMode::kStatic, StepMode::kDynamic, StepMode::kStatic,
                            StepMode::kDynamic};  // the last is the default
  const LayerTensors tensors = timestep_layer();
  for (QuantizeOptions options : kEitherWay) {
    const Tensor dynamic =
        quantized_outputs("W8A8_DYNAMIC", dynamic_layer_of(tensors), options, -1);
    for (int step = 0; step < kSteps; ++step) {
      EXPECT_EQ(policy.at(step), modes[step]);
      const Tensor row = quantized_outputs("W8A8", static_layer_of(tensors, step), options, -1);
      QuantizeOptions with_policy = options;
      with_policy.timestep_policy = policy;
      EXPECT_TRUE(same_bytes(quantized_outputs("W8A8_TIMESTEP", tensors, with_policy, step),
                             modes[step] == StepMode::kStatic ? row : dynamic))
          << step;
      EXPECT_FALSE(same_bytes(row, dynamic));
    }
  }
  const TimestepPolicy otherwise(StepMode::kStatic);
  EXPECT_EQ(otherwise.at(3), StepMode::kStatic) << "the default";
}

TEST(ConformanceEitherWay, Case32_WhatIsNoRangeOrNoStrategyIsRefused) {
  TimestepPolicy policy;
  EXPECT_EQ(error_of([&] { policy.set(2, 1, StepMode::kStatic); }).code(), ErrorCode::kUsage);
  EXPECT_EQ(error_of([&] { policy.set(-1, 1, StepMode::kStatic); }).code(), ErrorCode::kUsage);
  EXPECT_EQ(TimestepPolicy::parse(policy.text()), policy) << "nothing was registered";

  const TestFolder folder;
  const std::filesystem::path file = write_layer(folder, "W8A8_TIMESTEP", timestep_layer());
  for (const char* text : {"fixed 1", "5", "static (1,2)", "static 1-", "static 2-1"}) {
    EXPECT_EQ(error_of([&] { TimestepPolicy::parse(text); }).code(), ErrorCode::kInput) << text;
    Descriptor descriptor = read_descriptor(file);
    descriptor.facts[facts::kTimestepPolicy] = text;
    write_descriptor(file, descriptor);
    std::filesystem::permissions(file, std::filesystem::perms{0640});
    for (const QuantizeOptions& options : kEitherWay) {
      OneLinear model(kN, kK, true);
      const Error error = load_error(model.map, file, options);
      EXPECT_EQ(error.code(), ErrorCode::kInput) << text;
      EXPECT_EQ(error.details().file, file.string());
      EXPECT_EQ(error.details().found, text);
      EXPECT_TRUE(model.is_float());
    }
  }
}

}  // namespace
}  // namespace mezzotint::conformance
