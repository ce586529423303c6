// From a float model through statistics to files that a model runs.
#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

#include "collect/calibrated_export_fixture.h"
#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"
#include "quant/quantized_folder.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

// --- quality -------------------------------------------------------------------------------------

TEST_F(CalibratedExport, WeightOnlyAlgorithmsReachTheirBars) {
  const double nearest = error_without("W4A16");
  const double gptq = error_of("W4A16_GPTQ");
  const double awq = error_of("W4A16_AWQ");
  EXPECT_LT(gptq, 0.65 * nearest);
  EXPECT_LT(awq, 0.65 * nearest);
  EXPECT_GT(awq, 0.05 * nearest) << "too good to be quantized";
  ExportOptions both = options("W4A16_AWQ");
  both.calibration.feedback = ErrorFeedback::kAlways;
  const double awq_gptq = folder_error(exported(both));
  EXPECT_LT(awq_gptq, std::min(gptq, awq));
  EXPECT_LT(error_of("W8A16_GPTQ"), 0.65 * error_without("W8A16"));
  EXPECT_LT(error_of("W4A8_AWQ"), nearest);
}

TEST_F(CalibratedExport, SmoothingHelpsWhereActivationsAreQuantized) {
  EXPECT_LT(error_of("W8A8_DYNAMIC"), 0.5 * error_without("W8A8_DYNAMIC"));
  EXPECT_LT(error_of("W4A4_MXFP4"), error_without("W4A4_MXFP4"));
  EXPECT_LT(error_of("W4A4_MXFP4_SVD"), error_of("W4A4_MXFP4"));
}

// Rank 0 is the same algorithm without the branch.
TEST_F(CalibratedExport, ALowRankBranchIsNeverWorseThanNone) {
  const auto unsmoothed = [&](const char* algorithm) {
    ExportOptions how = options(algorithm);
    how.calibration.smoothing = Smoothing::kNone;
    return folder_error(exported(how));
  };
  EXPECT_LE(error_without("W4A4_MXFP4_SVD"), error_without("W4A4_MXFP4"));
  EXPECT_LE(unsmoothed("W4A4_MXFP4_SVD"), unsmoothed("W4A4_MXFP4"));
  EXPECT_LE(error_of("W4A4_MXFP4_SVD"), error_of("W4A4_MXFP4"));
}

TEST_F(CalibratedExport, OneScalePerStepIsBetterThanOneForAll) {
  const double fixed = error_of("W8A8");
  const double by_step = error_of("W8A8_TIMESTEP");
  EXPECT_LT(by_step, 0.1 * fixed);  // 64 times the range between the first step and the last
  EXPECT_GT(by_step, 0.002);
}

TEST_F(CalibratedExport, EveryAlgorithmThatNeedsStatisticsIsWrittenAndRuns) {
  int written = 0;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (!row.parameters.needs_statistics) continue;
    ++written;
    EXPECT_LT(error_of(std::string(row.name)), 0.3) << row.name;
    for (const LayerReport& layer : report_.layers) EXPECT_EQ(layer.algorithm, row.canonical);
  }
  EXPECT_EQ(written, 9);
}

TEST_F(CalibratedExport, RangeRulesAreDifferentFiles) {
  std::set<std::string> files;
  for (const RangeRule rule : {RangeRule::kMse, RangeRule::kMinMax, RangeRule::kPercentile}) {
    ExportOptions how = options("W8A8");
    how.calibration.range = rule;
    const fs::path out = exported(how);
    files.insert(file_bytes(out / "quant_model_weight_w8a8.safetensors"));
    EXPECT_LT(folder_error(out), 0.5);
  }
  EXPECT_EQ(files.size(), 3u);
}

// --- what the file holds -------------------------------------------------------------------------

Tensor stored(const fs::path& folder, const std::string& name) {
  return open_quantized(folder).weights.read(name);
}

TEST_F(CalibratedExport, LinearsOfOneInputShareTheirMultipliers) {
  const fs::path out = exported(options("W8A8_DYNAMIC"));
  const Tensor q = stored(out, "attn.q.div.mul_scale"), k = stored(out, "attn.k.div.mul_scale");
  EXPECT_TRUE(std::ranges::equal(q.buffer().bytes(), k.buffer().bytes()));
  EXPECT_EQ(q.shape(), (Shape{kK}));
  std::set<float> values(q.data<float>(), q.data<float>() + kK);
  EXPECT_GT(values.size(), 10u);
}

TEST_F(CalibratedExport, MultipliersOfMxFilesArePowersOfTwo) {
  const fs::path out = exported(options("W4A4_MXFP4"));
  const Tensor m = stored(out, "out.div.mul_scale");
  int other_than_one = 0;
  for (int64_t i = 0; i < kK; ++i) {
    const float v = m.data<float>()[i];
    EXPECT_EQ(std::exp2(std::round(std::log2(v))), v);
    other_than_one += v == 1.0f ? 0 : 1;
  }
  EXPECT_GT(other_than_one, 0);
}

TEST_F(CalibratedExport, WeightOnlyFilesAreNotSmoothed) {
  for (const char* algorithm : {"W8A16", "W4A16", "W4A4_DYNAMIC", "W4A16_GPTQ"}) {
    const fs::path out = exported(options(algorithm));
    EXPECT_EQ(open_quantized(out).weights.find("out.div.mul_scale"), nullptr) << algorithm;
  }
}

TEST_F(CalibratedExport, StaticLayersFollowTheFormulaOfTheContract) {
  ExportOptions how = options("W8A8");
  how.calibration.smoothing = Smoothing::kNone;
  how.calibration.range = RangeRule::kMinMax;
  const fs::path out = exported(how);
  const Tensor codes = stored(out, "out.weight"), quant_bias = stored(out, "out.quant_bias");
  const Tensor deq = stored(out, "out.deq_scale");
  const double scale = stored(out, "out.input_scale").data<float>()[0];
  const double offset = stored(out, "out.input_offset").data<float>()[0];
  const Statistics stats = read_statistics(stats_);
  const InputStatistics& in = *stats.of_linear("out");
  const float low = *std::min_element(in.min.data<float>(), in.min.data<float>() + kSteps);
  const float high = *std::max_element(in.max.data<float>(), in.max.data<float>() + kSteps);
  EXPECT_NEAR(scale, (high - low) / 255.0, scale * 0x1p-7);
  EXPECT_NEAR(offset, -low / scale - 128, 0.51);
  const Tensor bias = model_.store().read("out.bias");
  for (int64_t n = 0; n < kN; ++n) {
    double sum = 0;
    for (int64_t k = 0; k < kK; ++k) sum += codes.data<int8_t>()[n * kK + k];
    EXPECT_NEAR(quant_bias.data<int32_t>()[n],
                bias.data<float>()[n] / double{deq.data<float>()[n]} - offset * sum, 0.51);
  }
}

TEST_F(CalibratedExport, PerTensorFilesHaveOneWeightScale) {
  const fs::path out = exported(options("W8A8_PER_TENSOR"));
  const Tensor deq = stored(out, "out.linear.deq_scale");
  const std::set<float> scales(deq.data<float>(), deq.data<float>() + kN);
  EXPECT_EQ(scales.size(), 1u);
}

// Static or per token, by what is in the file; one scale of the weight or one per row.
TEST_F(CalibratedExport, TheFivePerNamesAreFourKindsOfFiles) {
  struct Kind {
    const char* algorithm;
    bool is_static, one_scale;
  };
  constexpr Kind kKinds[] = {{"W8A8_PER_CHANNEL", true, false},
                             {"W8A8_PER_CHANNEL_PER_TENSOR", true, false},
                             {"W8A8_PER_TENSOR", true, true},
                             {"W8A8_PER_CHANNEL_PER_TOKEN", false, false},
                             {"W8A8_PER_TENSOR_PER_TOKEN", false, true}};
  const Tensor x = rows_of_step(0, 900, 16);
  std::vector<std::vector<float>> outputs;
  for (const auto& [algorithm, is_static, one_scale] : kKinds) {
    ExportOptions how = options(algorithm);
    how.calibration.smoothing = Smoothing::kNone;
    const fs::path out = exported(how);
    EXPECT_EQ(open_quantized(out).weights.find("out.input_scale") != nullptr, is_static)
        << algorithm;
    const Tensor scale = stored(out, is_static ? "out.deq_scale" : "out.weight_scale");
    const std::set<float> scales(scale.data<float>(), scale.data<float>() + kN);
    EXPECT_EQ(scales.size() == 1, one_scale) << algorithm;
    model_.reset();
    quantize(model_.modules(), out, {}, context());
    outputs.push_back(model_.run(x, context()));
  }
  EXPECT_EQ(outputs[0], outputs[1]) << "two names of the static set";
  for (size_t i = 1; i < outputs.size(); ++i) {
    for (size_t j = i + 1; j < outputs.size(); ++j) EXPECT_NE(outputs[i], outputs[j]) << i << j;
  }
}

TEST_F(CalibratedExport, AwqIsAsymmetricAndGptqIsNot) {
  const Tensor awq = stored(exported(options("W4A16_AWQ")), "out.linear.weight_offset");
  const Tensor gptq = stored(exported(options("W4A16_GPTQ")), "out.weight_offset");
  const auto nonzero = [](const Tensor& t) {
    return t.size() - std::count(t.data<float>(), t.data<float>() + t.size(), 0.0f);
  };
  EXPECT_GT(nonzero(awq), awq.size() / 2);
  EXPECT_EQ(nonzero(gptq), 0);
}

TEST_F(CalibratedExport, TheDescriptorSaysHowItWasCalibrated) {
  const Descriptor d = open_quantized(exported(options("W8A8_TIMESTEP"))).descriptor;
  EXPECT_EQ(d.facts.at("calibration"), "range mse, smoothing search, feedback by name");
  EXPECT_EQ(d.facts.at("statistics"), read_statistics(stats_).run);
  EXPECT_TRUE(d.facts.contains("timestep_policy"));
}

// --- timesteps -----------------------------------------------------------------------------------

// Rows of one size in the first steps, of sizes from 1 to 64 in the others.
Statistics of_unlike_steps(ThreeLinears& model) {
  Collector collector(model.modules(), model_identity(model.store()), {.steps = kSteps}, context());
  for (int64_t step = 0; step < kSteps; ++step) {
    Tensor x = Tensor::allocate(DType::kF32, {kRowsPerStep, kK});
    auto* values = x.mutable_data<float>();
    for (int64_t i = 0; i < x.size(); ++i) {
      const int64_t row = i / kK;
      const float size = step < 2 ? 1.0f : static_cast<float>(1 << (row % 7));
      values[i] = size * (i % 3 == 0 ? 1.0f : 0.001f * static_cast<float>(i % 1999) - 1.0f);
    }
    model.run(x, context().with_tap(&collector.tap()).at_step(static_cast<int>(step)));
  }
  return collector.statistics();
}

TEST_F(CalibratedExport, ThePolicyIsStaticWhereRowsAreAlike) {
  write_statistics(stats_, of_unlike_steps(model_));
  ExportOptions how = options("W8A8_TIMESTEP");
  how.calibration.smoothing = Smoothing::kNone;
  const Descriptor d = open_quantized(exported(how)).descriptor;
  EXPECT_EQ(d.facts.at("timestep_policy"), "static 0-1");
  EXPECT_EQ(d.facts.at("static_tolerance"), "1.1");
  EXPECT_NE(std::ranges::find(report_.notes,
                              "timestep policy, from the statistics, static within 1.1 times the "
                              "dynamic error: static 0-1"),
            report_.notes.end());
}

TEST_F(CalibratedExport, TheToleranceMovesTheSplitAndIsInTheFile) {
  write_statistics(stats_, of_unlike_steps(model_));
  ExportOptions how = options("W8A8_TIMESTEP");
  how.calibration.smoothing = Smoothing::kNone;
  const auto expect_policy = [&](double tolerance, const char* text, const char* policy) {
    how.calibration.static_tolerance = tolerance;
    const Descriptor d = open_quantized(exported(how)).descriptor;
    EXPECT_EQ(d.facts.at("static_tolerance"), text);
    EXPECT_EQ(d.facts.at("timestep_policy"), policy);
    EXPECT_TRUE(report_.notes.back().ends_with(policy)) << report_.notes.back();
  };
  expect_policy(0, "0", "dynamic");
  expect_policy(1.25, "1.25", "static 0-1");
  expect_policy(1e6, "1000000", "static 0-3");
  how.timestep_policy = TimestepPolicy::parse("static 2");
  EXPECT_FALSE(open_quantized(exported(how)).descriptor.facts.contains("static_tolerance"));
}

TEST_F(CalibratedExport, StepsThatWereNotSeenTakeTheNearestOne) {
  Collector collector(model_.modules(), model_identity(model_.store()), {.steps = kSteps},
                      context());
  for (const int step : {1, 3}) {
    model_.run(rows_of_step(step, 100), context().with_tap(&collector.tap()).at_step(step));
  }
  write_statistics(stats_, collector.statistics());
  const Tensor scale = stored(exported(options("W8A8_TIMESTEP")), "out.linear.input_scale");
  ASSERT_EQ(scale.size(), kSteps);
  const float* s = scale.data<float>();
  EXPECT_EQ(s[0], s[1]);
  EXPECT_EQ(s[2], s[1]);
  EXPECT_GT(s[3], 4 * s[1]);
}

// --- what may not be -----------------------------------------------------------------------------

// Shares of codes that differ between two files.
double share_of_other_codes(const fs::path& a, const fs::path& b) {
  const WeightStore left = open_quantized(a).weights, right = open_quantized(b).weights;
  int64_t other = 0, all = 0;
  for (const char* layer : kLayers) {
    const Tensor x = left.read(std::string(layer) + ".weight");
    const Tensor y = right.read(std::string(layer) + ".weight");
    EXPECT_EQ(x.shape(), y.shape());
    for (int64_t i = 0; i < x.byte_size(); ++i) other += x.raw()[i] == y.raw()[i] ? 0 : 1;
    all += x.byte_size();
  }
  return static_cast<double>(other) / static_cast<double>(all);
}

TEST_F(CalibratedExport, AGptqFileIsNeverTheFileOfRoundingToNearest) {
  const auto plain = [&](const char* algorithm) {
    ExportOptions how = options(algorithm);
    how.calibration = {};
    return exported(how);
  };
  const auto fed_back = [&](const char* algorithm) {
    ExportOptions how = options(algorithm);
    how.calibration.smoothing = Smoothing::kNone;
    how.calibration.feedback = ErrorFeedback::kAlways;
    return exported(how);
  };
  EXPECT_EQ(share_of_other_codes(plain("W8A16"), plain("W8A16")), 0);
  EXPECT_GT(share_of_other_codes(plain("W8A16"), exported(options("W8A16_GPTQ"))), 0.2);
  EXPECT_GT(share_of_other_codes(plain("W4A16"), exported(options("W4A16_GPTQ"))), 0.2);
  for (const char* algorithm : {"W8A8_DYNAMIC", "W4A4_DYNAMIC", "W8A8_MXFP8", "W4A4_MXFP4"}) {
    EXPECT_GT(share_of_other_codes(plain(algorithm), fed_back(algorithm)), 0.05) << algorithm;
  }
}

// Groups and MX blocks keep the stored order; int4 rows with one scale do not.
TEST_F(CalibratedExport, ActOrderIsChosenByTheGridUnlessItIsSaid) {
  const auto fed_back = [&](const char* algorithm, FeedbackOrder order) {
    ExportOptions how = options(algorithm);
    how.calibration.smoothing = Smoothing::kNone;
    how.calibration.feedback = ErrorFeedback::kAlways;
    how.calibration.order = order;
    return exported(how);
  };
  const auto expect_auto_is = [&](FeedbackOrder same, FeedbackOrder other, const char* algorithm) {
    const fs::path chosen = fed_back(algorithm, FeedbackOrder::kAuto);
    EXPECT_EQ(share_of_other_codes(chosen, fed_back(algorithm, same)), 0) << algorithm;
    const fs::path unlike = fed_back(algorithm, other);
    EXPECT_GT(share_of_other_codes(chosen, unlike), 0.02) << algorithm;
    for (const char* scale : {"out.weight_scale", "attn.q.weight_scale"}) {
      EXPECT_TRUE(std::ranges::equal(stored(chosen, scale).buffer().bytes(),
                                     stored(unlike, scale).buffer().bytes()))
          << scale << " of " << algorithm;
    }
    return std::array{folder_error(chosen), folder_error(unlike)};
  };
  for (const char* algorithm : {"W4A16_GPTQ", "W4A4_MXFP4"}) {
    expect_auto_is(FeedbackOrder::kStored, FeedbackOrder::kByEnergy, algorithm);
  }
  expect_auto_is(FeedbackOrder::kByEnergy, FeedbackOrder::kStored, "W4A4_DYNAMIC");
  const Descriptor d = open_quantized(fed_back("W4A4_MXFP4", FeedbackOrder::kByEnergy)).descriptor;
  EXPECT_EQ(d.facts.at("calibration"),
            "range mse, smoothing none, feedback always, order by energy");
}

TEST_F(CalibratedExport, ALargerRankLeavesLessError) {
  std::vector<double> errors;
  for (const int64_t rank : {8, 0, 64}) {
    ExportOptions how = options("W4A4_MXFP4_SVD");
    how.svd_rank = rank;
    const fs::path out = exported(how);
    const int64_t expected = rank == 0 ? 32 : rank;
    EXPECT_EQ(stored(out, "out.svd_lowrank_l1").shape(), (Shape{expected, kK}));
    EXPECT_EQ(stored(out, "out.svd_lowrank_l2").shape(), (Shape{kN, expected}));
    errors.push_back(folder_error(out));
  }
  EXPECT_GT(errors[0], errors[1]);
  EXPECT_GT(errors[1], errors[2]);
}

// --- the same bytes ------------------------------------------------------------------------------

TEST_F(CalibratedExport, FilesDoNotDependOnThreads) {
  for (const char* algorithm : {"W4A16_AWQ", "W8A8_TIMESTEP", "W4A4_MXFP4_SVD"}) {
    std::set<std::string> files;
    for (const int threads : {1, 3}) {
      const fs::path out = folder_.path() / ("t" + std::to_string(threads) + algorithm);
      export_quantized(model_.store(), out, options(algorithm), ExecContext({.threads = threads}));
      for (const auto& entry : fs::directory_iterator(out)) files.insert(file_bytes(entry.path()));
    }
    EXPECT_EQ(files.size(), 2u) << algorithm;  // weights and descriptor
  }
}

TEST_F(CalibratedExport, AnInterruptedExportGoesOnToTheSameBytes) {
  ExportOptions how = options("W8A8_TIMESTEP");
  how.calibration.feedback = ErrorFeedback::kAlways;
  const fs::path whole = exported(how);
  for (int cut = 1; cut < 7; ++cut) {
    const fs::path out = folder_.path() / ("cut" + std::to_string(cut));
    int calls = 0;
    how.resume = false;
    how.progress = [&](const ExportProgress&) {
      if (++calls == cut) throw Error(ErrorCode::kInterrupted, "cut");
    };
    EXPECT_THROW(export_quantized(model_.store(), out, how, context()), Error);
    how.progress = {};
    how.resume = true;
    export_quantized(model_.store(), out, how, context());
    for (const auto& entry : fs::directory_iterator(whole)) {
      EXPECT_TRUE(file_bytes(entry.path()) == file_bytes(out / entry.path().filename())) << cut;
    }
  }
}

}  // namespace
}  // namespace mezzotint
