// For tests: a float model of three linears, its statistics, and exports that use them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "collect/collector.h"
#include "format/model_identity.h"
#include "format/statistics.h"
#include "format/temp_folder.h"
#include "mezzotint/quantize.h"
#include "solve/correlated_data.h"

namespace mezzotint {

namespace fs = std::filesystem;

inline constexpr int64_t kN = 96;
inline constexpr int64_t kK = 256;
inline constexpr int64_t kSteps = 4;
inline constexpr int64_t kRowsPerStep = 512;
inline constexpr const char* kLayers[] = {"attn.q", "attn.k", "out"};

inline const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

// Activations of one step: channels that are 20 times as large, and more of everything in later
// steps.
inline Tensor rows_of_step(int64_t step, uint32_t seed, int64_t rows = kRowsPerStep) {
  const ActivationShape shape = {
      .rows = rows, .k = kK, .hidden = 48, .outlier_every = 37, .outlier = 20.0f};
  Tensor x = correlated_rows(shape, 2, seed + static_cast<uint32_t>(step));
  for (int64_t i = 0; i < x.size(); ++i) {
    x.mutable_data<float>()[i] *= static_cast<float>(1 << (2 * step));
  }
  return x;
}

// A float model in a file: q and k share their input, out reads the same rows alone.
class ThreeLinears {
 public:
  explicit ThreeLinears(const fs::path& file, uint32_t seed = 1) : file_(file) {
    std::vector<TensorPlan> plan;
    for (const char* name : kLayers) {
      plan.push_back({std::string(name) + ".weight", DType::kF32, {kN, kK}});
      plan.push_back({std::string(name) + ".bias", DType::kF32, {kN}});
    }
    plan.push_back({"norm.weight", DType::kF32, {kK}});
    Writer writer(file, plan);
    for (const TensorPlan& t : plan) {
      const Tensor values = heavy_weights(t.shape.size() == 2 ? kN : 1, t.shape.back(), seed++);
      writer.put(t.name, values.reshaped(t.shape));
    }
    writer.finish();
    reset();
  }

  void reset() {
    const WeightStore store = WeightStore::open_file(file_);
    linears_.clear();
    for (const char* name : kLayers) {
      const std::string layer = name;
      linears_.push_back(std::make_unique<Linear>(
          Linear::from_float(layer, store.read(layer + ".weight"), store.read(layer + ".bias"))));
    }
    group_ = {.name = "attn.qk", .members = {linears_[0].get(), linears_[1].get()}};
  }

  WeightStore store() const { return WeightStore::open_file(file_); }
  ModuleMap modules() {
    return {.linears = {linears_[0].get(), linears_[1].get(), linears_[2].get()},
            .groups = {&group_},
            .attentions = {}};
  }

  // The outputs of all three, one after another.
  std::vector<float> run(const Tensor& x, const ExecContext& ctx) const {
    const int64_t m = x.dim(0);
    std::vector<float> y(static_cast<size_t>(3 * m * kN));
    const ConstMatrix in = {x.raw(), DType::kF32, m, kK, kK};
    const auto out = [&](int64_t i) {
      return Matrix{y.data() + i * m * kN, DType::kF32, m, kN, kN};
    };
    const std::vector<Matrix> outs = {out(0), out(1)};
    run_group(group_, in, outs, ctx);
    linears_[2]->run(in, out(2), ctx);
    return y;
  }

 private:
  fs::path file_;
  std::vector<std::unique_ptr<Linear>> linears_;
  LinearGroup group_;
};

inline Statistics collected(ThreeLinears& model, CollectOptions options) {
  options.steps = kSteps;
  Collector collector(model.modules(), model_identity(model.store()), options, context());
  for (int64_t step = 0; step < kSteps; ++step) {
    model.run(rows_of_step(step, 100),
              context().with_tap(&collector.tap()).at_step(static_cast<int>(step)));
  }
  return collector.statistics();
}

class CalibratedExport : public testing::Test {
 protected:
  CalibratedExport() : model_(folder_.path() / "model.safetensors") {
    write_statistics(stats_, collected(model_, {.steps = 0, .gram = {"*"}}));
  }

  ExportOptions options(const std::string& algorithm) const {
    return {.algorithm = algorithm, .preset = "none", .calibration = {.statistics = stats_}};
  }

  fs::path exported(const ExportOptions& how) {
    const fs::path out = folder_.path() / ("out" + std::to_string(count_++));
    report_ = export_quantized(model_.store(), out, how, context());
    return out;
  }

  // || y - y_float || / || y_float || over all steps, on rows that were not collected.
  double folder_error(const fs::path& folder) {
    double noise = 0, signal = 0;
    for (int64_t step = 0; step < kSteps; ++step) {
      const Tensor x = rows_of_step(step, 900, 128);
      const ExecContext ctx = context().at_step(static_cast<int>(step));
      model_.reset();
      const std::vector<float> exact = model_.run(x, ctx);
      quantize(model_.modules(), folder, {}, context());
      const std::vector<float> y = model_.run(x, ctx);
      double step_noise = 0, step_signal = 0;
      for (size_t i = 0; i < y.size(); ++i) {
        step_noise += (double{y[i]} - exact[i]) * (double{y[i]} - exact[i]);
        step_signal += double{exact[i]} * exact[i];
      }
      noise += step_noise / step_signal;  // every step counts alike
      signal += 1;
    }
    model_.reset();
    return std::sqrt(noise / signal);
  }
  double error_of(const std::string& algorithm) {
    return folder_error(exported(options(algorithm)));
  }
  double error_without(const std::string& algorithm) {
    ExportOptions plain = options(algorithm);
    plain.calibration = {};
    return folder_error(exported(plain));
  }

  TempFolder folder_;
  fs::path stats_ = folder_.path() / "stats.safetensors";
  ThreeLinears model_;
  Report report_;
  int count_ = 0;
};

}  // namespace mezzotint
