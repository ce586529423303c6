#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "mezzotint/error.h"
#include "models/flux.h"
#include "models/flux_testing.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const FluxConfig kTiny{.patch_size = 1,
                       .in_channels = 4,
                       .out_channels = 4,
                       .num_layers = 1,
                       .num_single_layers = 1,
                       .attention_head_dim = 16,
                       .num_attention_heads = 2,
                       .joint_attention_dim = 32,
                       .pooled_projection_dim = 16,
                       .guidance_embeds = false,
                       .axes_dims_rope = {4, 4, 8}};

// A model folder whose list of tensors went through `change`.
fs::path write_changed(const std::string& name,
                       const std::function<void(std::vector<TensorPlan>&)>& change) {
  const fs::path folder = testing::fresh_folder(testing::scratch_path(name));
  testing::write_text(folder / "config.json", testing::config_json(kTiny));
  std::vector<TensorPlan> plan = testing::FluxTensors(kTiny, DType::kF32).plan();
  change(plan);
  Writer writer(folder / testing::kWeightsName, plan);
  for (const TensorPlan& tensor : plan) {
    const std::vector<std::byte> zeros(static_cast<size_t>(byte_count(tensor.dtype, tensor.shape)));
    writer.put(tensor.name, zeros);
  }
  writer.finish();
  return folder;
}

TensorPlan& find(std::vector<TensorPlan>& plan, const std::string& name) {
  return *std::ranges::find(plan, name, &TensorPlan::name);
}

std::string message_of(const std::function<void()>& fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string load_message(const fs::path& folder) {
  return message_of([&] { load_flux(folder, ExecContext({.threads = 1})); });
}

void expect_contains(const std::string& text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) EXPECT_NE(text.find(part), text.npos) << text;
}

TEST(FluxLoad, NamesAMissingTensor) {
  const fs::path folder = write_changed("missing", [](std::vector<TensorPlan>& plan) {
    plan.erase(
        std::ranges::find(plan, "transformer_blocks.0.attn.norm_k.weight", &TensorPlan::name));
  });
  expect_contains(load_message(folder), {"transformer_blocks.0.attn.norm_k.weight"});
}

TEST(FluxLoad, NamesAMissingBias) {
  const fs::path folder = write_changed("bias", [](std::vector<TensorPlan>& plan) {
    plan.erase(std::ranges::find(plan, "proj_out.bias", &TensorPlan::name));
  });
  expect_contains(load_message(folder), {"proj_out.bias"});
}

TEST(FluxLoad, NamesAWrongShape) {
  const fs::path folder = write_changed("shape", [](std::vector<TensorPlan>& plan) {
    find(plan, "norm_out.linear.weight").shape = {32, 64};
  });
  expect_contains(load_message(folder), {"norm_out.linear.weight", "[64,32]", "[32,64]"});
}

TEST(FluxLoad, NamesADtypeThatIsNotFloat) {
  const fs::path folder = write_changed("dtype", [](std::vector<TensorPlan>& plan) {
    find(plan, "x_embedder.weight").dtype = DType::kI8;
  });
  expect_contains(load_message(folder), {"x_embedder.weight", "BF16", "I8"});
}

TEST(FluxLoad, ListsUnexpectedTensors) {
  const fs::path folder = write_changed("extra", [](std::vector<TensorPlan>& plan) {
    plan.push_back({"transformer_blocks.1.attn.to_q.weight", DType::kF32, {32, 32}});
  });
  expect_contains(load_message(folder), {"transformer_blocks.1.attn.to_q.weight", "1 more"});
}

TEST(FluxLoad, ReadsHalfFormats) {
  const fs::path folder = write_changed("half", [](std::vector<TensorPlan>& plan) {
    for (TensorPlan& tensor : plan) tensor.dtype = DType::kBF16;
    find(plan, "single_transformer_blocks.0.attn.norm_q.weight").dtype = DType::kF16;
  });
  EXPECT_EQ(load_message(folder), "no error");
}

TEST(FluxLoad, LeavesAQuantizedLinearEmptyWhenAskedTo) {
  const fs::path folder = write_changed("empty", [](std::vector<TensorPlan>& plan) {
    find(plan, "single_transformer_blocks.0.proj_mlp.weight").dtype = DType::kI8;
    plan.push_back({"single_transformer_blocks.0.proj_mlp.weight_scale", DType::kF32, {128, 1}});
  });
  const auto model = FluxTransformer::load(WeightStore::open(folder), kTiny, Missing::kLeaveEmpty);
  const Linear& empty = model->single_transformer_blocks.front().proj_mlp;
  EXPECT_EQ(empty.name(), "single_transformer_blocks.0.proj_mlp");
  EXPECT_EQ(empty.out_features(), 128);
  EXPECT_EQ(empty.in_features(), 32);
  EXPECT_EQ(empty.state(), nullptr);
  EXPECT_NE(model->single_transformer_blocks.front().proj_out.state(), nullptr);
}

TEST(FluxLoad, StillListsUnexpectedTensorsBesideEmptyLinears) {
  const fs::path folder = write_changed("empty_extra", [](std::vector<TensorPlan>& plan) {
    find(plan, "proj_out.weight").dtype = DType::kI8;
    plan.push_back({"proj_outs.weight_scale", DType::kF32, {4, 1}});
  });
  expect_contains(message_of([&] {
                    FluxTransformer::load(WeightStore::open(folder), kTiny, Missing::kLeaveEmpty);
                  }),
                  {"proj_outs.weight_scale"});
}

TEST(FluxLoad, QuantizesAndLoadsAFolder) {
  const fs::path source = testing::write_random_flux(testing::scratch_path("source"), kTiny, 3);
  const fs::path out = testing::scratch_path("quantized");
  fs::remove_all(out);
  const ExecContext ctx({.threads = 1});
  export_quantized(WeightStore::open(source), out, {.algorithm = "w8a8_dynamic"}, ctx);
  Report report;
  const auto quantized = load_flux(out, ctx, {}, &report);
  const auto floating = load_flux(source, ctx);
  EXPECT_GT(report.quantized(), 0);
  const FluxRope rope = flux_rope(kTiny, 3, 2, 2);
  const float timestep[] = {0.5f};
  const FluxInput input{.latents = testing::named_noise("latents", 1, {1, 4, 4}),
                        .text = testing::named_noise("text", 1, {1, 3, 32}),
                        .pooled = testing::named_noise("pooled", 1, {1, 16}),
                        .timestep = timestep};
  const Tensor a = quantized->forward(input, rope, ctx);
  const Tensor b = floating->forward(input, rope, ctx);
  const double error = testing::relative_l2(testing::values_of(a), testing::values_of(b));
  EXPECT_LT(error, 0.05);
  EXPECT_GT(error, 1e-4);  // too good: not quantized
}

// FP8 attention alone, and beside quantized linears.
TEST(FluxLoad, RunsTheAttentionOfAQuantizedFolder) {
  const fs::path source = testing::write_random_flux(testing::scratch_path("fa_source"), kTiny, 3);
  const ExecContext ctx({.threads = 1});
  const FluxRope rope = flux_rope(kTiny, 3, 2, 2);
  const float timestep[] = {0.5f};
  const FluxInput input{.latents = testing::named_noise("latents", 1, {1, 4, 4}),
                        .text = testing::named_noise("text", 1, {1, 3, 32}),
                        .pooled = testing::named_noise("pooled", 1, {1, 16}),
                        .timestep = timestep};
  const Tensor exact = load_flux(source, ctx)->forward(input, rope, ctx);
  double errors[2] = {};
  for (const bool linears : {false, true}) {
    const fs::path out = testing::scratch_path("fa_quantized");
    fs::remove_all(out);
    export_quantized(
        WeightStore::open(source), out,
        {.algorithm = linears ? "w8a8_dynamic" : "", .attentions = {{.algorithm = "fp8_dynamic"}}},
        ctx);
    Report report;
    const auto model = load_flux(out, ctx, {}, &report);
    for (const Attention* attention : model->modules().attentions) {
      EXPECT_EQ(attention->algorithm(), "FP8_DYNAMIC");
    }
    EXPECT_EQ(report.quantized() > 2, linears);
    const Tensor latents = model->forward(input, rope, ctx);
    const double error =
        testing::relative_l2(testing::values_of(latents), testing::values_of(exact));
    EXPECT_LT(error, 0.05);
    EXPECT_GT(error, 1e-5) << "too good: not quantized";
    errors[linears ? 1 : 0] = error;
  }
  EXPECT_NE(errors[0], errors[1]);
}

TEST(FluxLoad, FindsAFloatModelBelowTransformer) {
  const fs::path folder = testing::fresh_folder(testing::scratch_path("pipeline"));
  testing::write_random_flux(folder / "transformer", kTiny, 3);
  EXPECT_EQ(load_message(folder), "no error");
}

TEST(FluxForward, RefusesInputsOfTheWrongShape) {
  const fs::path source = testing::write_random_flux(testing::scratch_path("shapes"), kTiny, 3);
  const ExecContext ctx({.threads = 1});
  const auto model = load_flux(source, ctx);
  const FluxRope rope = flux_rope(kTiny, 3, 2, 2);
  const float timestep[] = {0.5f};
  const FluxInput good{.latents = testing::named_noise("latents", 1, {1, 4, 4}),
                       .text = testing::named_noise("text", 1, {1, 3, 32}),
                       .pooled = testing::named_noise("pooled", 1, {1, 16}),
                       .timestep = timestep};
  const auto message = [&](const FluxInput& input) {
    return message_of([&] { model->forward(input, rope, ctx); });
  };
  EXPECT_EQ(message(good), "no error");
  FluxInput bad = good;
  bad.latents = testing::named_noise("latents", 1, {1, 5, 4});
  expect_contains(message(bad), {"latents", "[1,4,4]", "[1,5,4]"});
  bad = good;
  bad.text = testing::named_noise("text", 1, {2, 3, 32});
  expect_contains(message(bad), {"text", "[1,3,32]", "[2,3,32]"});
  bad = good;
  bad.timestep = {};
  expect_contains(message(bad), {"timestep", "1 values", "0 values"});
  bad = good;
  bad.guidance = timestep;
  expect_contains(message(bad), {"guidance", "0 values", "1 values"});
}

}  // namespace
}  // namespace mezzotint
