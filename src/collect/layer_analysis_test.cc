// Errors that analyze_layers() predicts from statistics, and what is chosen by them.
#include "quant/layer_analysis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "collect/calibrated_export_fixture.h"
#include "format/expect_error.h"
#include "quant/layer_choice.h"
#include "quant/recipe.h"

namespace mezzotint {
namespace {

const std::vector<std::string> kAlgorithms = {"W8A16",      "W4A16_GPTQ",    "W4A16_AWQ",
                                              "W8A8",       "W8A8_TIMESTEP", "W8A8_DYNAMIC",
                                              "W8A8_MXFP8", "W4A4_MXFP4",    "W4A4_MXFP4_SVD"};

class LayerAnalyses : public CalibratedExport {
 protected:
  ModelAnalysis analysis(const std::vector<std::string>& algorithms) {
    return analyze_layers(model_.store(), options(""), algorithms, context());
  }

  // || y - y' ||^2 / || y ||^2 of every layer on rows that were not collected, all steps together.
  std::vector<double> true_errors(const fs::path& folder) {
    std::vector<double> noise(3), signal(3);
    for (int64_t step = 0; step < kSteps; ++step) {
      const Tensor x = rows_of_step(step, 900, 128);
      const ExecContext ctx = context().at_step(static_cast<int>(step));
      model_.reset();
      const std::vector<float> exact = model_.run(x, ctx);
      quantize(model_.modules(), folder, {}, context());
      const std::vector<float> y = model_.run(x, ctx);
      for (size_t i = 0; i < y.size(); ++i) {
        const size_t layer = i / static_cast<size_t>(128 * kN);
        noise[layer] += (double{y[i]} - exact[i]) * (double{y[i]} - exact[i]);
        signal[layer] += double{exact[i]} * exact[i];
      }
    }
    model_.reset();
    for (size_t i = 0; i < 3; ++i) noise[i] /= signal[i];
    return noise;
  }

  double true_error(const fs::path& folder) {
    const std::vector<double> errors = true_errors(folder);
    return std::accumulate(errors.begin(), errors.end(), 0.0);
  }

  static int64_t weight_bytes(const fs::path& folder) {
    int64_t bytes = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".safetensors") {
        bytes += static_cast<int64_t>(entry.file_size());
      }
    }
    return bytes;
  }

  fs::path exported_with(const ModelChoice& choice) {
    return exported(with_rules(options(""), choice.rules));
  }
};

TEST_F(LayerAnalyses, PredictTheErrorsOfLayersThatRun) {
  const ModelAnalysis all = analysis(kAlgorithms);
  EXPECT_EQ(all.algorithms, kAlgorithms);
  ASSERT_EQ(all.layers.size(), 3u);
  for (size_t a = 0; a < kAlgorithms.size(); ++a) {
    const std::vector<double> errors = true_errors(exported(options(kAlgorithms[a])));
    for (size_t i = 0; i < 3; ++i) {
      const LayerAnalysis& layer = all.layers[i];
      ASSERT_EQ(layer.name, kLayers[i]);
      // GPTQ and AWQ have seen the sample, the rows that run here are others.
      EXPECT_NEAR(layer.choices[a].sqnr_db(), -10 * std::log10(errors[i]), 3)
          << layer.name << " " << kAlgorithms[a];
    }
  }
}

TEST_F(LayerAnalyses, KnowTheBytesThatAnExportWrites) {
  const ModelAnalysis all = analysis({"w8a16", "W4A16_AWQ", "w4a4_mxfp4_svd"});
  for (size_t a = 0; a < 3; ++a) {
    int64_t bytes = all.float_bytes;
    for (const LayerAnalysis& layer : all.layers) {
      EXPECT_EQ(layer.float_bytes, 4 * (layer.n * layer.k + layer.n));
      bytes += layer.choices[a].bytes - layer.float_bytes;
    }
    exported(options(all.algorithms[a]));
    EXPECT_EQ(bytes, report_.bytes_after);
  }
}

TEST_F(LayerAnalyses, RankTheWorstFirst) {
  const ModelAnalysis all = analysis({"w4a16", "w8a16"});
  const std::vector<const LayerAnalysis*> layers = ranked(all, 0);
  ASSERT_EQ(layers.size(), 3u);
  EXPECT_GE(layers[0]->choices[0].error, layers[1]->choices[0].error);
  EXPECT_GE(layers[1]->choices[0].error, layers[2]->choices[0].error);
  for (const LayerAnalysis& layer : all.layers) {
    EXPECT_GT(layer.choices[0].error, 20 * layer.choices[1].error);
    EXPECT_LT(layer.choices[0].cosine, layer.choices[1].cosine);
  }
}

TEST_F(LayerAnalyses, SayWhyALayerHasNoChoice) {
  ExportOptions how = options("");
  how.rules = {{.pattern = "out", .algorithm = "float", .reason = "because"}};
  const ModelAnalysis all = analyze_layers(model_.store(), how, {"w8a16"}, context());
  EXPECT_TRUE(all.layers[2].choices.empty());
  EXPECT_EQ(all.layers[2].reason, "because");
  EXPECT_EQ(all.layers[0].reason, "");
  const ModelChoice choice = choose_by_quality(model_.store(), how, all, 10);
  EXPECT_EQ(choice.rules[2].algorithm, "float");
  EXPECT_EQ(choice.rules[2].reason, "because");
}

TEST_F(LayerAnalyses, NeedStatisticsAndAnAlgorithm) {
  expect_error(ErrorCode::kUsage, {"need statistics", "mezzotint collect"},
               [&] { analyze_layers(model_.store(), {.preset = "none"}, {"W8A16"}, context()); });
  expect_error(ErrorCode::kUsage, {"no algorithm"}, [&] { analysis({}); });
  expect_error(ErrorCode::kUnsupported, {"W9A9"}, [&] { analysis({"W9A9"}); });
}

TEST_F(LayerAnalyses, ASizeHoldsAndIsNeverWorseThanOneAlgorithm) {
  const ModelAnalysis all = analysis({"w8a8_dynamic", "w4a16", "w4a4_mxfp4"});
  const int64_t whole = all.float_bytes;
  for (const int64_t target : {whole / 6, whole / 3, whole / 2, whole * 3 / 4}) {
    const ModelChoice choice = choose_by_size(model_.store(), options(""), all, target);
    const fs::path folder = exported_with(choice);
    EXPECT_EQ(weight_bytes(folder), choice.bytes);
    EXPECT_LE(choice.bytes, target);
    for (size_t a = 0; a < 3; ++a) {
      double error = 0;
      for (const LayerAnalysis& layer : all.layers) error += layer.choices[a].error;
      const fs::path uniform = exported(options(all.algorithms[a]));
      if (weight_bytes(uniform) > target) continue;
      EXPECT_LE(choice.error, error * (1 + 1e-9)) << target << " " << all.algorithms[a];
      EXPECT_LE(true_error(folder), 1.5 * true_error(uniform));
    }
  }
}

TEST_F(LayerAnalyses, ATargetThatIsTooSmallNamesTheLeast) {
  const ModelAnalysis all = analysis({"w8a16"});
  const Error error = [&] {
    try {
      choose_by_size(model_.store(), options(""), all, 1000);
    } catch (const Error& e) {
      return e;
    }
    return Error(ErrorCode::kInternal, "nothing was thrown");
  }();
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_EQ(error.details().found, "1000 bytes");
  // What it names is reached.
  const int64_t least = std::stoll(error.details().expected.substr(21));
  EXPECT_NO_THROW(choose_by_size(model_.store(), options(""), all, least + 4096));
  EXPECT_THROW(choose_by_size(model_.store(), options(""), all, least - 1), Error);
}

TEST_F(LayerAnalyses, AQualityHoldsInEveryLayer) {
  const ModelAnalysis all = analysis({"w8a8_dynamic", "w4a16", "w4a4_mxfp4"});
  for (const double least : {5.0, 20.0, 35.0, 60.0}) {
    const ModelChoice choice = choose_by_quality(model_.store(), options(""), all, least);
    for (size_t i = 0; i < 3; ++i) {
      const LayerAnalysis& layer = all.layers[i];
      const LayerChoice* chosen = choice_of(layer, choice.algorithm[i]);
      if (chosen != nullptr) {
        EXPECT_GE(chosen->sqnr_db(), least);
      }
      for (const LayerChoice& other : layer.choices) {
        if (other.sqnr_db() < least) continue;
        ASSERT_NE(chosen, nullptr) << layer.name << " " << least;
        EXPECT_LE(chosen->bytes, other.bytes);
      }
      if (chosen == nullptr) {
        EXPECT_NE(choice.rules[i].reason.find("would have"), std::string::npos);
      }
    }
  }
}

TEST_F(LayerAnalyses, TheReasonOfALayerKeptFloatIsInTheReport) {
  const ModelAnalysis all = analysis({"w4a4_mxfp4", "w8a16"});
  // Between the layers of W8A16: some are good enough.
  std::vector<double> quality;
  for (const LayerAnalysis& layer : all.layers) quality.push_back(layer.choices[1].sqnr_db());
  std::ranges::sort(quality);
  const double least = (quality[0] + quality[2]) / 2;
  const ModelChoice choice = choose_by_quality(model_.store(), options(""), all, least);
  exported_with(choice);
  ASSERT_GE(report_.kept(), 1);
  for (const LayerReport& row : report_.layers) {
    if (row.algorithm != "FLOAT") continue;
    EXPECT_NE(row.reason.find("dB are asked for; W8A16 would have"), std::string::npos)
        << row.reason;
  }
}

TEST_F(LayerAnalyses, ARecipeOfTheChoiceWritesTheSameBytes) {
  const ModelAnalysis all = analysis({"w8a8_dynamic", "w4a4_mxfp4"});
  const ExportOptions how = with_rules(
      options(""), choose_by_size(model_.store(), options(""), all, all.float_bytes / 4).rules);
  const fs::path recipe = folder_.path() / "r.yaml";
  std::ofstream(recipe) << recipe_text(recipe, how, "test");
  const fs::path direct = exported(how);
  const fs::path by_recipe = exported(read_recipe(recipe).options);
  for (const fs::directory_entry& entry : fs::directory_iterator(direct)) {
    std::ifstream a(entry.path(), std::ios::binary);
    std::ifstream b(by_recipe / entry.path().filename(), std::ios::binary);
    EXPECT_TRUE(
        std::equal(std::istreambuf_iterator<char>(a), {}, std::istreambuf_iterator<char>(b), {}))
        << entry.path().filename();
  }
}

TEST_F(LayerAnalyses, SizePointsFallWithBytes) {
  const ModelAnalysis all = analysis({"w8a8_dynamic", "w4a16", "w4a4_mxfp4"});
  const std::vector<SizePoint> points = size_points(all);
  ASSERT_GE(points.size(), 6u);
  double last = 1e9;
  int64_t bytes = 0;
  for (const SizePoint& point : points) {
    if (!point.label.empty()) continue;
    EXPECT_GT(point.bytes, bytes);
    EXPECT_LE(point.error, last);
    bytes = point.bytes;
    last = point.error;
    for (const SizePoint& uniform : points) {
      if (uniform.label.empty() || uniform.bytes > point.bytes) continue;
      EXPECT_LE(point.error, uniform.error) << uniform.label;
    }
  }
}

TEST_F(LayerAnalyses, FollowTheTimestepPolicyThatIsGiven) {
  ExportOptions how = options("");
  how.calibration.smoothing = Smoothing::kNone;
  const auto error = [&](const char* policy) {
    how.timestep_policy = TimestepPolicy::parse(policy);
    return analyze_layers(model_.store(), how, {"w8a8_timestep"}, context())
        .layers[0]
        .choices[0]
        .error;
  };
  EXPECT_NE(error("static"), error("dynamic"));
}

TEST_F(LayerAnalyses, ExportsReportErrorsOfOutputs) {
  ExportOptions how = options("w8a8_timestep");
  how.output_errors = true;
  const fs::path folder = exported(how);
  const std::vector<double> errors = true_errors(folder);
  for (size_t i = 0; i < 3; ++i) {
    const LayerReport& row = report_.layers[i];
    EXPECT_NEAR(row.output_sqnr_db, -10 * std::log10(errors[i]), 3) << row.name;
    EXPECT_GT(row.output_cosine, 0.99);
    ASSERT_EQ(row.step_errors.size(), static_cast<size_t>(kSteps));
    for (const double error : row.step_errors) EXPECT_GT(error, 0);
  }
  how.output_errors = false;
  exported(how);
  EXPECT_EQ(report_.layers[0].output_sqnr_db, 0);
}

}  // namespace
}  // namespace mezzotint
