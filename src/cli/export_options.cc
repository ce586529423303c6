#include "cli/export_options.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "base/byte_size.h"
#include "cli/option_checks.h"
#include "mezzotint/error.h"

namespace mezzotint::cli {
namespace {

Rule parse_rule(const std::string& text) {
  // The last '=': a regular expression may hold one, the name of an algorithm does not.
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    throw Error(
        ErrorCode::kUsage, "--rule",
        {.expected = "PATTERN=ALGO", .found = text, .fix = "for example --rule '*.norm*=float'"});
  }
  return {.pattern = text.substr(0, equals),
          .algorithm = text.substr(equals + 1),
          .reason = fmt::format("--rule {}", text)};
}

// ALGO[:PATTERN[:HEAD_DIM]]; a pattern may hold colons ("re:..."), digits after the last one are
// the head_dim.
AttentionRule parse_attention(const std::string& text) {
  const auto malformed = [&] {
    return Error(ErrorCode::kUsage, "--fa",
                 {.expected = "ALGO[:PATTERN[:HEAD_DIM]]",
                  .found = text,
                  .fix = "for example --fa fp8_dynamic, or --fa 'fp8_dynamic:blocks.*.attn:128'"});
  };
  const size_t colon = text.find(':');
  AttentionRule rule = {.algorithm = text.substr(0, colon)};
  if (rule.algorithm.empty()) throw malformed();
  if (colon == std::string::npos) return rule;
  rule.pattern = text.substr(colon + 1);
  const size_t last = rule.pattern.rfind(':');
  if (last != std::string::npos && last + 1 < rule.pattern.size() &&
      rule.pattern.find_first_not_of("0123456789", last + 1) == std::string::npos) {
    const char* digits = rule.pattern.data() + last + 1;
    const char* end = rule.pattern.data() + rule.pattern.size();
    if (std::from_chars(digits, end, rule.head_dim).ec != std::errc() || rule.head_dim == 0) {
      throw malformed();
    }
    rule.pattern.resize(last);
  }
  if (rule.pattern.empty()) throw malformed();
  return rule;
}

int64_t parse_size(const char* option, const std::string& text) {
  const std::optional<int64_t> bytes = parse_bytes(text);
  if (bytes) return *bytes;
  throw Error(ErrorCode::kUsage, option,
              {.expected = "a size such as 5GB or 700MiB", .found = text});
}

template <typename T>
void take(const std::optional<T>& typed, T& value) {
  if (typed) value = *typed;
}

// Every occurrence is one element.
CLI::Option* repeated(CLI::Option* option) {
  return option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace

void add_keeping(CLI::App& app, TypedOptions& typed) {
  repeated(app.add_option("--exclude", typed.exclude, "keep these layers float; always wins")
               ->type_name("PATTERN"));
  app.add_option("--preset", typed.preset, "auto, none or a name of `presets`")->type_name("NAME");
  app.add_option("--group-size", typed.group_size, "elements per scale where it applies")
      ->type_name("N")
      ->check(not_negative());
  app.add_option("--svd-rank", typed.svd_rank, "of the low-rank branch of _SVD algorithms (32)")
      ->type_name("N")
      ->check(count_between(1, 4096));
}

void add_layer_choice(CLI::App& app, TypedOptions& typed) {
  app.add_option("--algo", typed.algorithm, "algorithm, in any case: list-algorithms")
      ->type_name("NAME");
  repeated(app.add_option("--rule", typed.rules,
                          "other algorithm, or float, for some layers; first wins")
               ->type_name("PATTERN=ALGO"));
}

void add_attentions(CLI::App& app, TypedOptions& typed) {
  repeated(app.add_option("--fa", typed.attentions,
                          "quantize attentions, as the preset or PATTERN names")
               ->type_name("ALGO[:PATTERN[:HEAD_DIM]]"));
}

void add_calibration(CLI::App& app, TypedOptions& typed) {
  app.add_option("--stats", typed.statistics, "what collect wrote: for algorithms that need it")
      ->type_name("FILE.safetensors");
  app.add_option("--range", typed.range,
                 "of static scales: mse, minmax or percentile; needs --stats")
      ->type_name("RULE")
      ->transform(choice_of<RangeRule>({{"mse", RangeRule::kMse},
                                        {"minmax", RangeRule::kMinMax},
                                        {"percentile", RangeRule::kPercentile}}));
  app.add_option("--smooth", typed.smoothing, "search (with --stats) or none")
      ->type_name("MODE")
      ->transform(
          choice_of<Smoothing>({{"search", Smoothing::kSearch}, {"none", Smoothing::kNone}}));
  app.add_flag_callback(
      "--gptq", [&typed] { typed.feedback = ErrorFeedback::kAlways; },
      "error feedback for every algorithm's weights; needs --stats");
  app.add_option(
         "--act-order", typed.order,
         "of error feedback: columns with large inputs first. auto (int4 with one scale per "
         "row), on or off; needs --stats")
      ->type_name("MODE")
      ->transform(choice_of<FeedbackOrder>({{"auto", FeedbackOrder::kAuto},
                                            {"on", FeedbackOrder::kByEnergy},
                                            {"off", FeedbackOrder::kStored}}));
  app.add_option("--static-tolerance", typed.static_tolerance,
                 "w8a8_timestep: static where a step's error is at most X times the dynamic one's "
                 "(1.1); needs --stats")
      ->type_name("X")
      ->check(number_between(0, 1000));
}

ExportOptions over(ExportOptions options, const TypedOptions& typed) {
  take(typed.algorithm, options.algorithm);
  take(typed.preset, options.preset);
  take(typed.group_size, options.group_size);
  take(typed.svd_rank, options.svd_rank);
  if (typed.max_shard_size) {
    options.max_shard_bytes = parse_size("--max-shard-size", *typed.max_shard_size);
  }
  if (typed.max_memory) options.max_memory_bytes = parse_size("--max-memory", *typed.max_memory);
  std::vector<Rule> rules;
  for (const std::string& rule : typed.rules) rules.push_back(parse_rule(rule));
  options.rules.insert(options.rules.begin(), rules.begin(), rules.end());
  std::vector<AttentionRule> attentions;
  for (const std::string& rule : typed.attentions) attentions.push_back(parse_attention(rule));
  options.attentions.insert(options.attentions.begin(), attentions.begin(), attentions.end());
  options.exclude.insert(options.exclude.begin(), typed.exclude.begin(), typed.exclude.end());
  if (typed.statistics) options.calibration.statistics = *typed.statistics;
  take(typed.range, options.calibration.range);
  take(typed.smoothing, options.calibration.smoothing);
  take(typed.feedback, options.calibration.feedback);
  take(typed.order, options.calibration.order);
  take(typed.static_tolerance, options.calibration.static_tolerance);
  return options;
}

void check_statistics(const TypedOptions& typed, const Calibration& how) {
  const bool wanted = typed.range || typed.smoothing || typed.order || typed.static_tolerance ||
                      how.feedback == ErrorFeedback::kAlways;
  if (!wanted || !how.statistics.empty()) return;
  throw Error(ErrorCode::kUsage,
              "--range, --smooth, --gptq, --act-order and --static-tolerance need statistics",
              {.expected = "--stats FILE", .found = "none", .fix = "mezzotint collect"});
}

}  // namespace mezzotint::cli
