#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/option_checks.h"
#include "cli/output_check.h"
#include "cli/text.h"
#include "cli/text_table.h"
#include "cli/verbs/verb.h"
#include "format/statistics.h"
#include "mezzotint/error.h"
#include "quant/output_errors.h"

namespace mezzotint::cli {
namespace {

struct Options {
  std::string action;
  std::vector<std::string> files;
  std::string out;
  bool force = false;
};

// The largest channel against the typical one: what smoothing is for.
double outlier_ratio(const InputStatistics& in) {
  std::vector<float> amax(in.amax.data<float>(), in.amax.data<float>() + in.k);
  const float most = *std::ranges::max_element(amax);
  const auto middle = amax.begin() + in.k / 2;
  std::nth_element(amax.begin(), middle, amax.end());
  return *middle == 0 ? 0 : double{most} / double{*middle};
}

int64_t dead_channels(const InputStatistics& in) {
  return std::count(in.amax.data<float>(), in.amax.data<float>() + in.k, 0.0f);
}

std::string kinds(const InputStatistics& in) {
  std::string text = "ranges";
  if (!in.hist.empty()) text += ", hist";
  if (!in.tokens.empty()) text += fmt::format(", {} tokens", in.tokens.dim(0));
  if (!in.gram.empty()) text += ", gram";
  return text;
}

double least(const Tensor& values) {
  return *std::min_element(values.data<float>(), values.data<float>() + values.size());
}
double most(const Tensor& values) {
  return *std::max_element(values.data<float>(), values.data<float>() + values.size());
}

nlohmann::json json_of(const Statistics& stats) {
  nlohmann::json inputs = nlohmann::json::array();
  for (const InputStatistics& in : stats.inputs) {
    inputs.push_back({{"name", in.name},
                      {"members", in.members},
                      {"k", in.k},
                      {"rows", in.rows},
                      {"min", least(in.min)},
                      {"max", most(in.max)},
                      {"outlier_ratio", outlier_ratio(in)},
                      {"dead_channels", dead_channels(in)},
                      {"histogram", !in.hist.empty()},
                      {"tokens", in.tokens.empty() ? 0 : in.tokens.dim(0)},
                      {"gram", !in.gram.empty()}});
  }
  nlohmann::json attentions = nlohmann::json::array();
  for (const AttentionStatistics& attention : stats.attentions) {
    attentions.push_back({{"name", attention.name},
                          {"algorithm", attention.algorithm},
                          {"head_dim", attention.head_dim},
                          {"error", attention.error()},
                          {"sqnr_db", sqnr_db(attention.error())}});
  }
  return {{"model", stats.model},
          {"steps", stats.steps},
          {"inputs", inputs},
          {"attentions", attentions}};
}

int show(const Session& session, const std::string& file) {
  const Statistics stats = read_statistics(file);
  session.print(fmt::format("{}  model {}  {}  {}", file, stats.model, plural(stats.steps, "step"),
                            plural(static_cast<int64_t>(stats.inputs.size()), "input")));
  TextTable table;
  table.columns = {{"input"},
                   {"K", Align::kRight},
                   {"rows", Align::kRight},
                   {"min", Align::kRight},
                   {"max", Align::kRight},
                   {"outliers", Align::kRight},
                   {"dead", Align::kRight},
                   {"holds"}};
  for (const InputStatistics& in : stats.inputs) {
    table.rows.push_back({printable(in.name), std::to_string(in.k), std::to_string(in.rows),
                          fmt::format("{:.3g}", least(in.min)), fmt::format("{:.3g}", most(in.max)),
                          fmt::format("{:.1f}x", outlier_ratio(in)),
                          std::to_string(dead_channels(in)), kinds(in)});
  }
  std::string text = to_text(table);
  text.pop_back();
  session.print(text);
  for (const AttentionStatistics& attention : stats.attentions) {
    session.print(fmt::format("attention {}   {}, head_dim {}: {:.1f} dB",
                              printable(attention.name), attention.algorithm, attention.head_dim,
                              sqnr_db(attention.error())));
  }
  session.emit(json_of(stats));
  return 0;
}

int merge(const Session& session, const Options& options) {
  if (options.files.size() < 2 || options.out.empty()) {
    throw Error(ErrorCode::kUsage, "what should be merged?",
                {.expected = "stats merge FILE FILE... -o OUT.safetensors",
                 .found = plural(static_cast<int64_t>(options.files.size()), "file")});
  }
  check_output_file(options.out, options.force ? Existing::kReplace : Existing::kRefuse);
  Statistics merged = read_statistics(options.files.front());
  for (size_t i = 1; i < options.files.size(); ++i) {
    merged = merge_statistics(merged, read_statistics(options.files[i]));
  }
  write_statistics(options.out, merged);
  session.print("wrote  " + options.out);
  session.emit({{"out", options.out}, {"inputs", merged.inputs.size()}});
  return 0;
}

int run(Session& session, const Options& options) {
  if (options.action == "merge") return merge(session, options);
  if (options.action != "show") {
    throw Error(ErrorCode::kUsage, "stats does one of two things",
                {.expected = "show or merge", .found = options.action});
  }
  if (options.files.size() == 1) return show(session, options.files.front());
  throw Error(ErrorCode::kUsage, "stats show takes one file",
              {.found = plural(static_cast<int64_t>(options.files.size()), "file")});
}

}  // namespace

RunVerb define_stats(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("ACTION", options->action, "show or merge")->required();
  app.add_option("FILES", options->files, "what collect wrote")->required();
  app.add_option("-o,--output,--out", options->out, "of merge: the file to write")
      ->type_name("FILE.safetensors");
  app.add_flag("--force", options->force, "replace an existing file");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
