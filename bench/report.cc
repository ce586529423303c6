#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <ostream>
#include <span>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/cpu_features.h"
#include "bench/paths.h"
#include "bench/stopwatch.h"
#include "mezzotint/version.h"

namespace mezzotint::bench {
namespace {

// How far below the mean a single shape may be, in percent points.
constexpr double kSpread = 7;

struct Mean {
  double value = 0;
  double least = 0;
  int count = 0;
};

Mean geometric_mean(const std::vector<Result>& results,
                    const std::function<bool(const Case&)>& wanted,
                    const std::function<double(const Result&)>& value) {
  double logs = 0;
  Mean mean = {.least = 1e30};
  for (const Result& result : results) {
    if (!wanted(result.what)) continue;
    const double v = value(result);
    logs += std::log(v);
    mean.least = std::min(mean.least, v);
    ++mean.count;
  }
  if (mean.count > 0) mean.value = std::exp(logs / mean.count);
  return mean;
}

double percent(const Result& result) { return 100 * result.timing.share(result.what); }

std::string bar_cell(const std::vector<Result>& results, std::string_view path,
                     std::string_view set, int threads, double bar) {
  const auto wanted = [&](const Case& c) {
    return c.part == "whole" && c.path == path && c.set == set && c.threads == threads;
  };
  const Mean mean = geometric_mean(results, wanted, percent);
  if (mean.count == 0 || mean.value == 0) return "-";
  if (bar == 0) return fmt::format("{:.1f} ({:.0f})", mean.value, mean.least);
  const bool met = mean.value >= bar && mean.least >= bar - kSpread;
  return fmt::format("{:.1f} ({:.0f}) {} {:.0f}", mean.value, mean.least, met ? ">=" : "<", bar);
}

// Seconds of `path` at the shape of `like`; 0: not measured. "X gemm" is X without the time that
// the quantization of x takes alone.
double seconds_of(const std::vector<Result>& results, const Case& like, std::string_view path,
                  int threads, std::string_view part = "whole") {
  constexpr std::string_view kGemm = " gemm";
  if (path.ends_with(kGemm)) {
    path.remove_suffix(kGemm.size());
    return seconds_of(results, like, path, threads) -
           seconds_of(results, like, path, threads, "quantize");
  }
  const auto it = std::ranges::find_if(results, [&](const Result& r) {
    return r.what.path == path && r.what.threads == threads && r.what.part == part &&
           r.what.m == like.m && r.what.n == like.n && r.what.k == like.k;
  });
  return it == results.end() ? 0 : it->timing.seconds;
}

// The geometric mean of seconds of `other` at `other_threads` over seconds of `path` at `threads`,
// over the shapes of the sets.
Mean speed_up(const std::vector<Result>& results, std::span<const std::string_view> sets,
              std::string_view path, int threads, std::string_view other, int other_threads) {
  const auto wanted = [&](const Case& c) {
    return c.part == "whole" && c.path == other && std::ranges::count(sets, c.set) != 0 &&
           c.threads == other_threads && seconds_of(results, c, path, threads) > 0;
  };
  return geometric_mean(results, wanted, [&](const Result& r) {
    return r.timing.seconds / seconds_of(results, r.what, path, threads);
  });
}

void print_ratio(std::ostream& out, const std::string& title, const Mean& mean, double bar) {
  if (mean.count == 0) return;
  out << fmt::format("{:46} {:5.2f} (least {:.2f})", title, mean.value, mean.least);
  if (bar != 0) out << fmt::format(" {} {:.2f}", mean.value >= bar ? ">=" : "<", bar);
  out << '\n';
}

// Sets that bars are held to, and those of few rows, which have none.
constexpr std::string_view kBarSets[] = {"big", "flux_blocks", "demo_step"};
constexpr std::string_view kFewRows[] = {"hot"};

void print_ratios(std::ostream& out, const std::vector<Result>& results) {
  for (const RatioBar& bar : ratio_bars()) {
    for (const int threads : {1, 2}) {
      const std::string title = fmt::format("{} than {}, {} thr", bar.path, bar.other, threads);
      print_ratio(out, title, speed_up(results, kBarSets, bar.path, threads, bar.other, threads),
                  bar.at_least);
      print_ratio(out, title + ", M=16",
                  speed_up(results, kFewRows, bar.path, threads, bar.other, threads), 0);
    }
  }
  constexpr double kSecondThread = 1.8;
  for (const Path& path : paths()) {
    print_ratio(out, fmt::format("{}: 2 threads than 1", path.name),
                speed_up(results, kBarSets, path.name, 2, path.name, 1), kSecondThread);
  }
}

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

double memory_read_rate(int threads) {
  std::vector<double> rates;
  for (int i = 0; i < 5; ++i) {
    rates.push_back(measure_peak(Peak::kMemoryRead, active_isa(), threads));
  }
  return median(rates);
}

nlohmann::json case_json(const Result& result) {
  const Case& c = result.what;
  const Timing& t = result.timing;
  return {{"engine", c.engine},
          {"set", c.set},
          {"path", c.path},
          {"kernel", c.kernel},
          {"part", c.part},
          {"m", c.m},
          {"n", c.n},
          {"k", c.k},
          {"threads", c.threads},
          {"isa", isa_name(c.isa)},
          {"operations", c.operations},
          {"bytes", c.bytes},
          {"cold", c.cold},
          {"seconds", t.seconds},
          {"best_seconds", t.best_seconds},
          {"samples", t.samples},
          {"peak", t.peak},
          {"best_peak", t.best_peak},
          {"peak_instruction", peak_instruction(c.cold ? Peak::kMemoryRead : c.peak, c.isa)},
          {"share", c.part == "whole" ? t.share(c) : 0.0},
          {"wall_over_cpu", t.wall_over_cpu}};
}

// How many instructions of each peak loop a core cycle takes: what every share rests on.
std::map<std::string_view, double> peak_loops() {
  std::map<std::string_view, double> rates;
  for (const Peak peak : {Peak::kInt8Dot, Peak::kBf16Dot, Peak::kFma}) {
    const double rate = instructions_a_cycle(peak, active_isa());
    if (rate > 0) rates[peak_instruction(peak, active_isa())] = rate;
  }
  return rates;
}

// Pipes are whole: a loop between 1 and 2 waits for itself, or another hardware thread shares its
// core.
void print_peak_loops(std::ostream& out) {
  constexpr double kNearEnough = 0.06;
  for (const auto& [name, rate] : peak_loops()) {
    const bool whole = std::abs(rate - std::round(rate)) <= kNearEnough * rate;
    out << fmt::format(
        "peak loop {}: {:.2f} a cycle{}\n", name, rate,
        whole ? ""
              : "  [warning: no whole number: shares are of too little, or the core is shared]");
  }
  out << '\n';
}

// One row per path that was measured: the cells of `sets` at one and at two threads.
struct SetTitle {
  std::string_view set, title;
  double (*bar)(const Bars& bars, int threads);
};

void print_table(std::ostream& out, const std::vector<Result>& results, Op op,
                 std::span<const SetTitle> sets) {
  std::string lines;
  for (const Path& path : paths()) {
    const auto is_path = [&](const Result& r) { return r.what.path == path.name; };
    if (path.op != op || std::ranges::none_of(results, is_path)) continue;
    std::string cells;
    bool measured = false;
    for (const SetTitle& set : sets) {
      for (const int threads : {1, 2}) {
        const std::string cell =
            bar_cell(results, path.name, set.set, threads, set.bar(path.bars, threads));
        measured = measured || cell != "-";
        cells += fmt::format("{:>18}", cell);
      }
    }
    if (measured) lines += fmt::format("{:15}{}\n", path.name, cells);
  }
  if (lines.empty()) return;
  out << fmt::format("{:15}", "path");
  for (const SetTitle& set : sets) {
    for (const int threads : {1, 2}) {
      out << fmt::format("{:>18}", fmt::format("{}, {} thr", set.title, threads));
    }
  }
  out << '\n' << lines << '\n';
}

constexpr SetTitle kLinearSets[] = {
    {"big", "big", [](const Bars& bars, int threads) { return bars.big[threads - 1]; }},
    {"hot", "M=16", [](const Bars& bars, int threads) { return bars.hot[threads - 1]; }},
    {"cold", "M=1", [](const Bars& bars, int threads) { return bars.cold[threads - 1]; }},
};
constexpr SetTitle kAttentionSets[] = {
    {"s1024", "S=1024", [](const Bars& bars, int) { return bars.s1024; }},
    {"s4608", "S=4608", [](const Bars& bars, int) { return bars.s4608; }},
};

}  // namespace

void print_result(std::ostream& out, const Result& result) {
  const Case& c = result.what;
  const Timing& t = result.timing;
  const double rate = (c.cold ? c.bytes : c.operations) / t.seconds / 1e9;
  const std::string shape = fmt::format("{}x{}x{}", c.m, c.n, c.k);
  out << fmt::format("{:8} {:11} {:17} {} thr {:11.1f} us", c.set, c.path, shape, c.threads,
                     t.seconds * 1e6);
  if (c.part != "whole") {
    out << fmt::format("  {}\n", c.part);
    return;
  }
  out << fmt::format("  {:6.1f} {} {:5.1f} % (best {:5.1f} %)  {}", rate, c.cold ? "GB/s" : "GOPS",
                     100 * t.share(c), 100 * t.best_share(c), c.kernel);
  if (t.wall_over_cpu > 1.05)
    out << fmt::format("  [others took {:.0f} %]", 100 - 100 / t.wall_over_cpu);
  if (t.samples.size() < 5) out << fmt::format("  [{} passes]", t.samples.size());
  out << '\n';
}

void print_bars(std::ostream& out, const std::vector<Result>& results) {
  out << "\nShare of the peak in percent: geometric mean over the shapes (least shape), and the "
         "bar.\n"
         "M = 16: weights in the caches; M = 1: weights from memory, share of its read rate.\n";
  print_table(out, results, Op::kLinear, kLinearSets);
  print_table(out, results, Op::kAttention, kAttentionSets);
  print_peak_loops(out);
  out << "Times faster, big shapes, Flux blocks and the demo's step:\n";
  print_ratios(out, results);
}

namespace {

nlohmann::json bars_json() {
  nlohmann::json document;
  for (const Path& path : paths()) {
    const Bars& bars = path.bars;
    document[std::string(path.name)] = {{"big", bars.big},
                                        {"hot", bars.hot},
                                        {"cold", bars.cold},
                                        {"s1024", {bars.s1024, bars.s1024}},
                                        {"s4608", {bars.s4608, bars.s4608}}};
  }
  return document;
}

}  // namespace

std::string to_json(const std::vector<Result>& results, const std::string& command) {
  nlohmann::json document = {{"mezzotint_bench", 1},
                             {"version", version()},
                             {"command", command},
                             {"processor", processor()},
                             {"isa", isa_name(active_isa())},
                             {"memory_read", {memory_read_rate(1), memory_read_rate(2)}},
                             {"peak_instructions_a_cycle", peak_loops()},
                             {"bars", bars_json()},
                             {"cases", nlohmann::json::array()}};
  for (const Result& result : results) document["cases"].push_back(case_json(result));
  return document.dump(1) + "\n";
}

}  // namespace mezzotint::bench
