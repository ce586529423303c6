// What an export refuses to make of statistics, and what it makes of an input of zeros.
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "collect/calibrated_export_fixture.h"
#include "format/expect_error.h"

namespace mezzotint {
namespace {

class CalibratedExportInput : public CalibratedExport {
 protected:
  // Found from the plan: a dry run says so too, and nothing is begun.
  void expect_refused(std::initializer_list<std::string_view> parts, ExportOptions how) {
    const fs::path out = folder_.path() / "refused";
    for (const bool dry_run : {true, false}) {
      how.dry_run = dry_run;
      expect_error(ErrorCode::kUsage, parts,
                   [&] { export_quantized(model_.store(), out, how, context()); });
      EXPECT_FALSE(fs::exists(out));
    }
  }
};

TEST_F(CalibratedExportInput, StatisticsOfAnotherModelAreRefused) {
  ThreeLinears other(folder_.path() / "other.safetensors", 77);
  write_statistics(stats_, collected(other, {.steps = 0}));
  expect_refused({"statistics are of another model", "stats.safetensors"}, options("W8A8"));
}

TEST_F(CalibratedExportInput, TooFewRowsAreRefused) {
  write_statistics(stats_, collected(model_, {.steps = 0, .tokens = 63}));
  expect_refused({"too few rows", "at least 64", "got 63", "attn.qk"}, options("W8A8_DYNAMIC"));
  write_statistics(stats_, collected(model_, {.steps = 0, .tokens = 100}));
  expect_refused({"too few rows", "at least 128", "got 100", "--gram attn.qk"},
                 options("W4A16_GPTQ"));
  ExportOptions feedback = options("W8A16");
  feedback.calibration.feedback = ErrorFeedback::kAlways;
  expect_refused({"too few rows", "at least 128"}, feedback);
}

TEST_F(CalibratedExportInput, ALayerThatTheStatisticsDoNotKnowIsNamed) {
  Statistics stats = read_statistics(stats_);
  stats.inputs.pop_back();
  const fs::path partial = folder_.path() / "partial.safetensors";
  write_statistics(partial, stats);
  ExportOptions how = options("W8A16_GPTQ");
  how.calibration.statistics = partial;
  expect_refused({"do not know a layer", "out"}, how);
  how.exclude = {"out"};
  EXPECT_NO_THROW(exported(how));
}

TEST_F(CalibratedExportInput, HistogramsAreAskedForWhereTheyAreNeeded) {
  write_statistics(stats_, collected(model_, {.steps = 0, .histograms = false}));
  ExportOptions how = options("W8A8");
  how.calibration.smoothing = Smoothing::kNone;
  expect_refused({"hold no histograms", "--no-histograms"}, how);
  how.calibration.range = RangeRule::kMinMax;
  EXPECT_NO_THROW(exported(how));
}

TEST_F(CalibratedExportInput, UnfinishedStatisticsAndUpstreamsRulesAreRefused) {
  Statistics stats = read_statistics(stats_);
  stats.facts["done"] = "1";
  const fs::path unfinished = folder_.path() / "unfinished.safetensors";
  write_statistics(unfinished, stats);
  ExportOptions how = options("W8A8");
  how.compat = Compat::kUpstream;
  expect_refused({"upstream"}, how);
  how.compat = Compat::kNone;
  how.calibration.statistics = unfinished;
  expect_refused({"unfinished"}, how);
}

TEST_F(CalibratedExportInput, AToleranceBelowZeroIsRefused) {
  ExportOptions how = options("W8A8_TIMESTEP");
  how.calibration.static_tolerance = -0.5;
  expect_refused({"tolerance of static steps", "0 or more", "-0.5"}, how);
}

// Every channel of one input dead: its layers are rounded to nearest, its static scale is raised
// until the bias fits.
TEST_F(CalibratedExportInput, AnInputOfZerosIsExportedAll) {
  Collector collector(model_.modules(), model_identity(model_.store()),
                      {.steps = kSteps, .gram = {"*"}}, context());
  const std::vector<float> zeros(kRowsPerStep * kK, 0.0f);
  for (int step = 0; step < kSteps; ++step) {
    model_.run(Tensor::copy_of<float>(zeros, {kRowsPerStep, kK}),
               context().with_tap(&collector.tap()).at_step(step));
  }
  write_statistics(stats_, collector.statistics());
  for (const char* algorithm :
       {"W8A8", "W8A8_TIMESTEP", "W4A16_AWQ", "W4A16_GPTQ", "W8A8_DYNAMIC"}) {
    const fs::path out = exported(options(algorithm));
    quantize(model_.modules(), out, {}, context());
    const Tensor x = Tensor::copy_of<float>(std::vector<float>(kK, 0.0f), {1, kK});
    const std::vector<float> y = model_.run(x, context().at_step(0));
    const Tensor bias = model_.store().read("out.bias");
    for (int64_t n = 0; n < kN; ++n) {
      EXPECT_NEAR(y[static_cast<size_t>(2 * kN + n)], bias.data<float>()[n], 1e-5) << algorithm;
    }
    model_.reset();
  }
}

}  // namespace
}  // namespace mezzotint
