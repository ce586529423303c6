#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "mezzotint/quantize.h"
#include "quant/file_fixture.h"
#include "quant/quantized_folder.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

// A float model of mixed dtypes with tensors that are no layers.
struct Source {
  explicit Source(uint64_t seed = 50) {
    std::mt19937_64 random(seed);
    const auto add = [&](const std::string& name, DType dtype, const Shape& shape) {
      tensors.push_back({name, "", normal_tensor(dtype, shape, random)});
    };
    add("a.weight", DType::kBF16, {7, 33});
    add("a.bias", DType::kBF16, {7});
    add("norm.weight", DType::kBF16, {33});
    add("b.weight", DType::kF32, {16, 64});
    add("c.weight", DType::kBF16, {5, 40});
    add("c.bias", DType::kF32, {5});
    add("scale_shift_table", DType::kF32, {1, 6, 32});
    add("d.weight", DType::kF16, {9, 96});
    tensors.push_back({"ids", "", Tensor::copy_of<int64_t>(std::vector<int64_t>{1, 2, 3}, {3})});
    fs::create_directories(folder / "model");
    write_weights(folder / "model" / "model.safetensors", tensors);
    write_text(folder / "model" / "config.json", "{\"_class_name\": \"Tiny\"}\n");
  }
  WeightStore store() const { return WeightStore::open(folder / "model"); }
  fs::path out() const { return folder / "out"; }

  TestFolder folder;
  LayerTensors tensors;
};

std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  if (!fs::exists(folder)) return files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    files[name] = entry.is_regular_file() ? file_text(entry.path()) : "(folder)";
  }
  return files;
}

const LayerReport& row(const Report& report, const std::string& name) {
  for (const LayerReport& layer : report.layers) {
    if (layer.name == name) return layer;
  }
  throw Error(ErrorCode::kInternal, "no row " + name);
}

const ExportOptions kMixed = {.algorithm = "w8a8_dynamic",
                              .rules = {{.pattern = "b", .algorithm = "w8a16"}},
                              .exclude = {"d"},
                              .preset = "none"};

TEST(Export, WritesAFolderThatStandsAlone) {
  const Source source;
  const Report report = export_quantized(source.store(), source.out(), kMixed, context());
  std::set<std::string> names;
  for (const auto& [name, text] : files_in(source.out())) names.insert(name);
  EXPECT_EQ(names,
            (std::set<std::string>{"config.json", "quant_model_description_w8a8_dynamic.json",
                                   "quant_model_weight_w8a8_dynamic.safetensors"}));
  EXPECT_EQ(file_text(source.out() / "config.json"), "{\"_class_name\": \"Tiny\"}\n");
  const QuantizedFolder folder = open_quantized(source.out());
  require_no_problems(folder);
  EXPECT_EQ(folder.descriptor.model_quant_type, "W8A8_DYNAMIC");
  ASSERT_EQ(folder.layers.size(), 3u);
  EXPECT_EQ(folder.kept.at("d"), "--exclude d");
  // Every tensor of the source that is no quantized layer is there, byte for byte, label FLOAT.
  for (const char* name : {"norm.weight", "scale_shift_table", "d.weight", "ids"}) {
    const auto it = std::ranges::find(source.tensors, std::string(name), &NamedTensor::name);
    EXPECT_TRUE(same_bytes(folder.weights.read(name), it->tensor)) << name;
    EXPECT_EQ(*folder.descriptor.label(name), "FLOAT");
  }
  EXPECT_EQ(*folder.descriptor.label("b.weight"), "W8A16");
  EXPECT_EQ(*folder.descriptor.label("a.bias"), "FLOAT");
  EXPECT_EQ(folder.descriptor.labels.size(), folder.weights.tensors().size());
  EXPECT_EQ(report.quantized(), 3);
  EXPECT_EQ(report.kept(), 1);
  EXPECT_EQ(row(report, "d").reason, "--exclude d");
}

TEST(Export, ReportsBytesAndAnSqnrThatMatchesTheCodes) {
  const Source source;
  const Report report = export_quantized(source.store(), source.out(), kMixed, context());
  const QuantizedFolder folder = open_quantized(source.out());
  int64_t written = 0;
  for (const TensorInfo& tensor : folder.weights.tensors()) written += tensor.bytes;
  EXPECT_EQ(report.bytes_after, written);
  EXPECT_EQ(report.bytes_before, source.store().total_bytes());
  EXPECT_EQ(row(report, "a").bytes_before, 7 * 33 * 2 + 7 * 2);
  EXPECT_EQ(row(report, "a").bytes_after, 7 * 33 + 7 * 4 * 3);
  // Independent: codes and scales from the file, the weight from the source.
  const std::vector<float> w = [&] {
    std::vector<float> values(16 * 64);
    widen_into(source.tensors[3].tensor, values);
    return values;
  }();
  const Tensor codes = folder.weights.read("b.weight");
  const Tensor scales = folder.weights.read("b.weight_scale");
  double signal = 0, noise = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double q = static_cast<double>(codes.data<int8_t>()[i]) * scales.data<float>()[i / 64];
    signal += static_cast<double>(w[i]) * w[i];
    noise += (w[i] - q) * (w[i] - q);
  }
  EXPECT_NEAR(row(report, "b").weight_sqnr_db, 10 * std::log10(signal / noise), 1e-4);
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_GT(row(report, name).weight_sqnr_db, 40);
    EXPECT_LT(row(report, name).weight_sqnr_db, 55);  // better would not be int8
  }
}

TEST(Export, TheSameInputGivesTheSameBytes) {
  const Source source;
  export_quantized(source.store(), source.folder / "one", kMixed, ExecContext({.threads = 1}));
  export_quantized(source.store(), source.folder / "two", kMixed, ExecContext({.threads = 3}));
  EXPECT_EQ(files_in(source.folder / "one"), files_in(source.folder / "two"));
}

TEST(Export, ADryRunWritesNothingAndPlansTheSame) {
  const Source source;
  ExportOptions options = kMixed;
  options.dry_run = true;
  const Report planned = export_quantized(source.store(), source.out(), options, context());
  EXPECT_FALSE(fs::exists(source.out()));
  const Report report = export_quantized(source.store(), source.out(), kMixed, context());
  EXPECT_EQ(planned.bytes_after, report.bytes_after);
  EXPECT_EQ(planned.quantized(), report.quantized());
  EXPECT_EQ(planned.notes, report.notes);
}

TEST(Export, ProgressEndsAtTheTotal) {
  const Source source;
  ExportOptions options = kMixed;
  std::vector<ExportProgress> seen;
  options.progress = [&](const ExportProgress& progress) { seen.push_back(progress); };
  export_quantized(source.store(), source.out(), options, context());
  ASSERT_EQ(seen.size(), source.tensors.size());
  for (size_t i = 1; i < seen.size(); ++i) EXPECT_GT(seen[i].bytes_done, seen[i - 1].bytes_done);
  EXPECT_EQ(seen.back().bytes_done, seen.back().bytes_total);
}

TEST(Export, ShardsAndTheirIndexLoadBack) {
  const Source source;
  ExportOptions options = kMixed;
  options.max_shard_bytes = 1500;
  export_quantized(source.store(), source.out(), options, context());
  EXPECT_TRUE(fs::exists(source.out() / "quant_model_weight_w8a8_dynamic.safetensors.index.json"));
  const QuantizedFolder folder = open_quantized(source.out());
  require_no_problems(folder);
  for (const LayerEntry& entry : folder.layers) EXPECT_GT(read_layer(folder, entry).plan.n, 0);
}

TEST(Export, RanksLieBesideEachOther) {
  const Source source;
  ExportOptions options = kMixed;
  for (const int rank : {0, 1}) {
    options.rank = rank;
    export_quantized(source.store(), source.out(), options, context());
  }
  EXPECT_TRUE(fs::exists(source.out() / "quant_model_weight_w8a8_dynamic_0.safetensors"));
  EXPECT_TRUE(fs::exists(source.out() / "quant_model_description_w8a8_dynamic_1.json"));
  EXPECT_EQ(open_quantized(source.out(), 1).files.rank, 1);
  EXPECT_EQ(
      error_of([&] { export_quantized(source.store(), source.out(), options, context()); }).code(),
      ErrorCode::kUsage);
}

TEST(Export, TheNamedTypeIsWhatWasAskedForElseTheMostFrequent) {
  const Source source;
  const auto type_of = [&](const std::vector<Rule>& rules, const std::string& algorithm) {
    ExportOptions options = {.algorithm = algorithm, .rules = rules, .preset = "none"};
    options.overwrite = true;
    export_quantized(source.store(), source.out(), options, context());
    return open_quantized(source.out()).descriptor.model_quant_type;
  };
  EXPECT_EQ(type_of({{.pattern = "re:a|b|c", .algorithm = "w8a16"}}, "w8a8_dynamic"),
            "W8A8_DYNAMIC");
  EXPECT_EQ(type_of({{.pattern = "re:a|b|c", .algorithm = "w8a16"},
                     {.pattern = "d", .algorithm = "w8a8_dynamic"}},
                    "float"),
            "W8A16");
}

// --- what is refused
// ------------------------------------------------------------------------------

TEST(Export, AFolderWithFilesIsRefusedUnlessOverwrite) {
  const Source source;
  fs::create_directories(source.out());
  write_text(source.out() / "notes.txt", "mine");
  const Error error =
      error_of([&] { export_quantized(source.store(), source.out(), kMixed, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find("got notes.txt"), std::string::npos) << error.what();
  ExportOptions options = kMixed;
  options.overwrite = true;
  export_quantized(source.store(), source.out(), options, context());
  EXPECT_EQ(file_text(source.out() / "notes.txt"), "mine");
}

TEST(Export, OverwritingLeavesNoOldQuantizedFileBehind) {
  const Source source;
  export_quantized(source.store(), source.out(), {.algorithm = "w8a16", .preset = "none"},
                   context());
  ExportOptions options = kMixed;
  options.overwrite = true;
  export_quantized(source.store(), source.out(), options, context());
  EXPECT_EQ(files_in(source.out()).size(), 3u);
  EXPECT_EQ(open_quantized(source.out()).descriptor.model_quant_type, "W8A8_DYNAMIC");
}

TEST(Export, WhatCannotBeDoneIsNamed) {
  const Source source;
  const auto expect = [&](const ExportOptions& options, ErrorCode code, const std::string& text) {
    const Error error =
        error_of([&] { export_quantized(source.store(), source.out(), options, context()); });
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    EXPECT_FALSE(fs::exists(source.out()));
  };
  expect({.algorithm = "float", .preset = "none"}, ErrorCode::kUsage, "nothing to quantize");
  expect({.algorithm = "nf4", .preset = "none"}, ErrorCode::kUnsupported, "not served");
  expect({.algorithm = "w4a16_awq", .preset = "none"}, ErrorCode::kUsage,
         "W4A16_AWQ needs statistics: mezzotint collect");
  expect({.algorithm = "w8a8_mxfp8", .preset = "none", .group_size = 64}, ErrorCode::kUsage,
         "no layer has an algorithm with groups");
  expect({.algorithm = "w8a8_mxfp8", .preset = "none", .svd_rank = 16}, ErrorCode::kUsage,
         "no layer has an algorithm with a low-rank branch");
  expect({.algorithm = "w4a4_mxfp4_svd", .preset = "none", .svd_rank = -1}, ErrorCode::kUsage,
         "the rank of low-rank branches is negative");
  const Error same = error_of(
      [&] { export_quantized(source.store(), source.folder / "model", kMixed, context()); });
  EXPECT_EQ(same.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(same.what()).find("folder of the source"), std::string::npos);
}

TEST(Export, AGroupOfThirtyTwoIsWhatMxBlocksAre) {
  const Source source;
  EXPECT_NO_THROW(export_quantized(source.store(), source.out(),
                                   {.algorithm = "w4a4_mxfp4", .preset = "none", .group_size = 32},
                                   context()));
}

TEST(Export, ASourceThatIsQuantizedAlreadyIsRefused) {
  const Source source;
  export_quantized(source.store(), source.out(), kMixed, context());
  const fs::path again = source.folder / "again";
  for (const char* preset : {"none", "auto"}) {
    const Error error = error_of([&] {
      export_quantized(WeightStore::open(source.out()), again,
                       {.algorithm = "w8a16", .preset = preset}, context());
    });
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("quantized already"), std::string::npos);
    EXPECT_FALSE(fs::exists(again));
  }
}

TEST(Export, ANameThatALayerNeedsIsRefused) {
  TestFolder folder;
  std::mt19937_64 random(1);
  write_weights(folder / "m.safetensors",
                {{"a.weight", "", normal_tensor(DType::kF32, {4, 32}, random)},
                 {"a.weight_scale", "", normal_tensor(DType::kF32, {4}, random)}});
  const Error error = error_of([&] {
    export_quantized(WeightStore::open_file(folder / "m.safetensors"), folder / "out",
                     {.algorithm = "w8a16"}, context());
  });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_EQ(error.details().tensor, "a.weight_scale");
}

// --- killed runs
// ----------------------------------------------------------------------------------

// Ends the process, as a kill would, after `steps` tensors. Threads stay out of the child.
void export_and_die(const Source& source, ExportOptions options, int steps) {
  const pid_t child = fork();
  if (child == 0) {
    options.progress = [&steps](const ExportProgress&) {
      if (--steps == 0) _exit(9);
    };
    try {
      export_quantized(source.store(), source.out(), options, ExecContext({.threads = 1}));
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 9);
}

TEST(Export, AKilledRunLeavesNothingAndResumesToTheSameBytes) {
  const Source source;
  export_quantized(source.store(), source.folder / "whole", kMixed, context());
  const auto whole = files_in(source.folder / "whole");
  for (const int steps : {1, 4, 9}) {
    fs::remove_all(source.out());
    export_and_die(source, kMixed, steps);
    ExportProgress first, last;
    EXPECT_EQ(files_in(source.out()),
              (std::map<std::string, std::string>{{".partial", "(folder)"}}));
    EXPECT_EQ(error_of([&] { open_quantized(source.out()); }).code(), ErrorCode::kInput);
    ExportOptions options = kMixed;
    options.resume = true;
    options.progress = [&](const ExportProgress& state) {
      if (first.layer.empty()) first = state;
      last = state;
    };
    const Report report = export_quantized(source.store(), source.out(), options, context());
    EXPECT_EQ(files_in(source.out()), whole) << steps;
    EXPECT_EQ(report.quantized(), 3);
    // What was done before is no part of the work, so that the time left is not underestimated.
    EXPECT_LT(last.bytes_total, source.store().total_bytes());
    EXPECT_EQ(last.bytes_done, last.bytes_total);
    EXPECT_LT(first.bytes_done, first.bytes_total);
  }
}

TEST(Export, AKilledRunIsDiscardedWithoutResume) {
  const Source source;
  export_and_die(source, {.algorithm = "w8a16", .preset = "none"}, 4);
  export_quantized(source.store(), source.out(), kMixed, context());
  EXPECT_EQ(files_in(source.out()).size(), 3u);
}

TEST(Export, OldFilesOutliveAKilledOverwrite) {
  const Source source;
  export_quantized(source.store(), source.out(), {.algorithm = "w8a16", .preset = "none"},
                   context());
  const auto old = files_in(source.out());
  ExportOptions options = kMixed;
  options.overwrite = true;
  export_and_die(source, options, 5);
  auto left = files_in(source.out());
  EXPECT_EQ(left.erase(".partial"), 1u);
  EXPECT_EQ(left, old);
  options.overwrite = false;  // the interrupted run was allowed to
  options.resume = true;
  export_quantized(source.store(), source.out(), options, context());
  EXPECT_EQ(open_quantized(source.out()).descriptor.model_quant_type, "W8A8_DYNAMIC");
  EXPECT_EQ(files_in(source.out()).size(), 3u);
}

TEST(Export, AnotherRunIsNotResumed) {
  const Source source;
  export_and_die(source, {.algorithm = "w8a16", .preset = "none"}, 4);
  ExportOptions options = kMixed;
  options.resume = true;
  const Error error =
      error_of([&] { export_quantized(source.store(), source.out(), options, context()); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find("was another one"), std::string::npos);
}

}  // namespace
}  // namespace mezzotint
