// Layer analyses of the shipped model against what its layers do on prompts that were not
// collected.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "collect/analysis_fixture.h"
#include "collect/collector.h"
#include "format/model_identity.h"
#include "format/temp_folder.h"
#include "models/flux.h"
#include "models/prompts.h"
#include "models/sampler.h"
#include "quant/export_plan.h"
#include "quant/layer_choice.h"
#include "quant/written_layer.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = fs::path(MZ_SOURCE_DIR) / "demo";
constexpr int64_t kSteps = 4;
constexpr int64_t kHeldRows = 384;  // of every input, of all steps
const std::vector<std::string> kAlgorithms = {"W8A8_DYNAMIC", "W4A16", "W4A4_MXFP4"};

class SlowAnalysisOfTheDemo : public ::testing::Test {
 protected:
  struct Rows {
    int64_t k = 0;
    std::vector<float> values;
  };

  static void SetUpTestSuite() {
    shared_ = new Shared;
    shared_->analysis = analyze_layers(shared_->store, options(), kAlgorithms, ctx());
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  static const ExecContext& ctx() {
    static const ExecContext context({.threads = 2});
    return context;
  }

  static void run(const FluxTransformer& model, const std::vector<int64_t>& prompts, uint64_t seed,
                  const Tap& tap) {
    const PromptSet all = read_prompts(kDemo);
    SampleRequest request;
    const auto count = static_cast<int64_t>(prompts.size());
    request.noise = starting_noise(seed, 0, {count, 64, model.config.in_channels});
    request.condition = all.embeddings.select(prompts);
    request.rows = 8;
    request.cols = 8;
    request.steps = kSteps;
    sample(model, read_scheduler_config(kDemo), request, ctx().with_tap(&tap));
  }

  struct Shared {
    Shared() : model(load_flux(kDemo, ctx())), store(WeightStore::open(kDemo)) {
      Collector collector(model->modules(), model_identity(store),
                          {.steps = kSteps, .sigmas = {}, .tokens = 512}, ctx());
      run(*model, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 1, collector.tap());
      write_statistics(stats, collector.statistics());
      Tap tap;
      tap.on_linear_input = [this](std::string_view name, const ConstMatrix& x, int) {
        keep(held[std::string(name)], x);
      };
      run(*model, {17, 20, 24}, 77, tap);
    }

    // Every so many rows, so that all steps and both kinds of tokens are among them.
    static void keep(Rows& rows, const ConstMatrix& x) {
      rows.k = x.cols;
      const int64_t stride = std::max<int64_t>(1, x.rows * kSteps / kHeldRows);
      for (int64_t row = 0; row < x.rows; row += stride) {
        const auto* values = static_cast<const float*>(x.data) + row * x.row_stride;
        rows.values.insert(rows.values.end(), values, values + x.cols);
      }
    }

    TempFolder folder;
    fs::path stats = folder.path() / "stats.safetensors";
    std::unique_ptr<FluxTransformer> model;
    WeightStore store;
    std::map<std::string, Rows> held;
    ModelAnalysis analysis;
  };

  static ExportOptions options() { return {.calibration = {.statistics = shared_->stats}}; }

  static std::vector<float> outputs_of(const Linear& linear, const Rows& rows) {
    const auto m = static_cast<int64_t>(rows.values.size()) / rows.k;
    std::vector<float> y(static_cast<size_t>(m * linear.out_features()));
    linear.run({rows.values.data(), DType::kF32, m, rows.k, rows.k},
               {y.data(), DType::kF32, m, linear.out_features(), linear.out_features()}, ctx());
    return y;
  }

  // || y - y' ||^2 / || y ||^2 of each linear on what it was given in the held run, without bias.
  static std::map<std::string, double> true_errors(const fs::path& quantized) {
    const auto other = load_flux(quantized, ctx());
    std::map<std::string, std::string> input;
    const ModuleMap modules = shared_->model->modules();
    for (const LinearGroup* group : modules.groups) {
      for (const Linear* member : group->members) input[member->name()] = group->name;
    }
    std::map<std::string, double> errors;
    const ModuleMap quantized_modules = other->modules();
    for (size_t i = 0; i < modules.linears.size(); ++i) {
      const Linear& linear = *modules.linears[i];
      const auto group = input.find(linear.name());
      const auto rows = shared_->held.find(group == input.end() ? linear.name() : group->second);
      if (rows == shared_->held.end()) continue;
      errors[linear.name()] = relative_error(linear, *quantized_modules.linears[i], rows->second);
    }
    return errors;
  }

  static double relative_error(const Linear& exact, const Linear& quantized, const Rows& rows) {
    const std::vector<float> y = outputs_of(exact, rows), z = outputs_of(quantized, rows);
    std::vector<float> bias(static_cast<size_t>(exact.out_features()), 0.0f);
    if (const TensorInfo* info = shared_->store.find(exact.name() + ".bias")) {
      widen_range(shared_->store.read(info->name), 0, bias);
    }
    double noise = 0, signal = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      const double value = double{y[i]} - bias[i % bias.size()];
      noise += (double{z[i]} - y[i]) * (double{z[i]} - y[i]);
      signal += value * value;
    }
    return noise / signal;
  }

  static void expect_ranks();
  static void expect_sizes();

  static Shared* shared_;
};

SlowAnalysisOfTheDemo::Shared* SlowAnalysisOfTheDemo::shared_ = nullptr;

void SlowAnalysisOfTheDemo::expect_ranks() {
  const ModelAnalysis& analysis = shared_->analysis;
  for (size_t a = 0; a < kAlgorithms.size(); ++a) {
    ExportOptions how = options();
    how.algorithm = kAlgorithms[a];
    const fs::path out = shared_->folder.path() / kAlgorithms[a];
    const Report report = export_quantized(shared_->store, out, how, ctx());
    const std::map<std::string, double> truth = true_errors(out);
    std::vector<double> predicted, measured, by_weight;
    for (const LayerReport& row : report.layers) {
      if (row.algorithm == "FLOAT") continue;
      const auto layer = std::ranges::find(analysis.layers, row.name, &LayerAnalysis::name);
      ASSERT_NE(layer, analysis.layers.end());
      predicted.push_back(layer->choices[a].error);
      measured.push_back(truth.at(row.name));
      by_weight.push_back(-row.weight_sqnr_db);
    }
    ASSERT_GE(predicted.size(), 20u);
    const double correlation = testing::rank_correlation(predicted, measured);
    std::printf("%-14s %zu layers: rank correlation %.4f (of the weights' SQNR alone %.4f)\n",
                kAlgorithms[a].c_str(), predicted.size(), correlation,
                testing::rank_correlation(by_weight, measured));
    RecordProperty(kAlgorithms[a], std::to_string(correlation));
    EXPECT_GE(correlation, 0.9) << kAlgorithms[a];
    std::mt19937 random(1);
    std::ranges::shuffle(predicted, random);
    EXPECT_LT(testing::rank_correlation(predicted, measured), 0.6) << "of shuffled layers";
  }
}

// From what only the smallest choices reach to float.
void SlowAnalysisOfTheDemo::expect_sizes() {
  const ModelAnalysis& analysis = shared_->analysis;
  std::vector<SizePoint> uniform;
  int64_t least = analysis.float_bytes;
  for (size_t a = 0; a < kAlgorithms.size(); ++a) {
    const std::vector<Rule> rules = [&] {
      std::vector<Rule> all;
      for (const LayerAnalysis& layer : analysis.layers) {
        all.push_back(
            {.pattern = layer.name, .algorithm = choice_of(layer, a) ? kAlgorithms[a] : "float"});
      }
      return all;
    }();
    SizePoint point = {.label = kAlgorithms[a]};
    for (const LayerAnalysis& layer : analysis.layers) {
      if (const LayerChoice* choice = choice_of(layer, a)) point.error += choice->error;
    }
    const ExportPlan plan = plan_export(shared_->store, with_rules(options(), rules));
    point.bytes = plan.report.bytes_after;
    least = std::min(least, point.bytes);
    uniform.push_back(point);
  }
  double worst_use = 1;
  for (int percent = 2; percent < 100; percent += 7) {
    const int64_t target = least + (analysis.float_bytes - least) * percent / 100;
    const ModelChoice choice = choose_by_size(shared_->store, options(), analysis, target);
    EXPECT_LE(choice.bytes, target);
    EXPECT_GE(choice.bytes, target * 98 / 100) << percent;
    worst_use =
        std::min(worst_use, static_cast<double>(choice.bytes) / static_cast<double>(target));
    for (const SizePoint& point : uniform) {
      if (point.bytes + (choice.bytes / 100) > target) continue;  // its header does not fit
      EXPECT_LE(choice.error, point.error) << percent << " " << point.label;
    }
  }
  std::printf("of 14 targets at least %.2f %% were used\n", 100 * worst_use);
}

// One test: the analysis of all layers is what takes the time.
TEST_F(SlowAnalysisOfTheDemo, RanksLayersAsTheirTrueErrorsAndFillsASize) {
  expect_ranks();
  expect_sizes();
}

}  // namespace
}  // namespace mezzotint
