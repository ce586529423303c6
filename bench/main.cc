// Real shapes through every path: ./x bench --help

#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "bench/aocl_dlp/aocl_dlp_cases.h"
#include "bench/attention_cases.h"
#include "bench/flux_cases.h"
#include "bench/linear_cases.h"
#include "bench/onednn/onednn_cases.h"
#include "bench/report.h"
#include "models/shape_list.h"

namespace mezzotint::bench {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> shapes = {"bars"};
  std::string resolution;
  std::vector<std::string> sets;
  CaseOptions cases;
  MeasureOptions measure;
  bool quick = false;
  bool peers = false;
  bool flux_blocks = false;
  int64_t rows_at_most = 4608;
  std::string json;
};

// A file, or the name of one in bench/shapes.
fs::path shapes_file(const std::string& name) {
  if (fs::exists(name)) return name;
  return fs::path(MZ_SOURCE_DIR) / "bench" / "shapes" / (name + ".txt");
}

// --quick: the first and the smallest big shape, and one of each other set.
bool is_quick(const LinearShape& shape) {
  const bool first = shape.m == 4096 && shape.k == 3072;
  return first || (shape.n == 5120 && shape.k == 5120);
}
bool is_quick(const AttentionCallShape& shape) { return shape.q <= 1536; }

void cut_rows(LinearShape& shape, int64_t at_most) { shape.m = std::min(shape.m, at_most); }
void cut_rows(AttentionCallShape& shape, int64_t at_most) {
  shape.q = std::min(shape.q, at_most);
  shape.kv = std::min(shape.kv, at_most);
}

template <typename Shape>
std::vector<Shape> wanted(const std::vector<Shape>& shapes, const Options& options) {
  std::vector<Shape> kept;
  for (Shape shape : shapes) {
    const bool in_set = options.sets.empty() || std::ranges::count(options.sets, shape.name) != 0;
    if (!in_set || (options.quick && !is_quick(shape))) continue;
    cut_rows(shape, options.rows_at_most);
    kept.push_back(std::move(shape));
  }
  return distinct(kept);
}

void define(CLI::App& app, Options& options) {
  app.add_option("--shapes", options.shapes,
                 "files of shapes, or bars, flux, wan, qwen_image, sd3, hunyuan (default: bars)")
      ->delimiter(',');
  app.add_option("--resolution", options.resolution, "of the shapes; default: the file's first");
  app.add_option("--rows", options.rows_at_most, "more rows are cut to this (default: 4608)");
  app.add_option("--set", options.sets, "names of shapes: big, hot, cold, s1024, s4608")
      ->delimiter(',');
  app.add_option("--path", options.cases.paths, "int8, int4, mxfp4, ... (default: all)")
      ->delimiter(',');
  app.add_option("--threads", options.cases.threads, "default: 1,2")->delimiter(',');
  app.add_option("--passes", options.measure.passes, "default: 5");
  app.add_option("--seconds", options.measure.seconds_a_case,
                 "fewer passes of a case that takes longer in all (default: 30)");
  app.add_flag_callback(
      "--every-row", [&options] { options.cases.rows = Rows::kEvery; },
      "also the rows of lower instruction sets");
  app.add_flag("--peers", options.peers,
               "oneDNN and AOCL-DLP as well, where this was built with them");
  app.add_flag("--flux-blocks", options.flux_blocks,
               "a double and a single block of FLUX.1 at 1024 + 512 tokens and a step of the demo "
               "model, no other shapes");
  app.add_flag("--quick", options.quick, "a few shapes, 3 passes: within three minutes");
  app.add_option("--json", options.json, "write all figures to this file");
}

void check_paths(const Options& options) {
  std::set<std::string> known;
  for (const Path& path : paths()) known.emplace(path.name);
  for (const std::string& name : options.cases.paths) {
    if (!known.contains(name)) throw CLI::ValidationError("--path", "no path is called " + name);
  }
}

std::string joined(int argc, char** argv) {
  std::string command = "./x bench";
  for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
  return command;
}

int run(Options options, const std::string& command) {
  if (options.quick) {
    options.measure.passes = 3;
    options.measure.seconds_a_case = 3;
  }
  std::vector<Result> results;
  const auto measure = [&](const std::vector<Case>& cases) {
    const std::vector<Timing> timings = measure_interleaved(cases, options.measure);
    for (size_t i = 0; i < cases.size(); ++i) {
      results.push_back({cases[i], timings[i]});
      results.back().what.call = nullptr;  // lets go of the weights
      print_result(std::cout, results.back());
    }
    std::cout << std::flush;
  };
  if (options.flux_blocks) {
    measure(flux_cases(options.cases));
    options.shapes.clear();
  }
  for (const std::string& name : options.shapes) {
    const ShapeList list = read_shape_list(shapes_file(name), options.resolution);
    for (const LinearShape& shape : wanted(list.linears, options)) {
      std::vector<Case> cases = linear_cases(shape, options.cases);
      if (options.peers) {
        std::ranges::move(onednn_cases(shape, options.cases), std::back_inserter(cases));
        std::ranges::move(aocl_dlp_cases(shape, options.cases), std::back_inserter(cases));
      }
      measure(cases);
    }
    for (const AttentionCallShape& shape : wanted(list.attentions, options)) {
      measure(attention_cases(shape, options.cases));
    }
  }
  print_bars(std::cout, results);
  if (!options.json.empty()) std::ofstream(options.json) << to_json(results, command);
  return results.empty() ? 1 : 0;
}

}  // namespace
}  // namespace mezzotint::bench

int main(int argc, char** argv) {
  CLI::App app("Times linears and attentions of real shapes beside the machine's peaks.",
               "./x bench");
  mezzotint::bench::Options options;
  mezzotint::bench::define(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    mezzotint::bench::check_paths(options);
    return mezzotint::bench::run(options, mezzotint::bench::joined(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 2;
  }
}
