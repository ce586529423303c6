#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/cpu_features.h"
#include "cli/attention_costs.h"
#include "cli/error_text.h"
#include "cli/layer_costs.h"
#include "cli/option_checks.h"
#include "cli/text.h"
#include "cli/text_table.h"
#include "cli/verbs/verb.h"
#include "kernels/attention_op.h"
#include "mezzotint/error.h"
#include "models/shape_list.h"
#include "quant/attention_selection.h"
#include "quant/layer_selection.h"
#include "quant/presets.h"

namespace mezzotint::cli {
namespace {

struct Options {
  std::string model;
  std::string component = "transformer";
  std::string shapes;
  std::string resolution;
  std::string preset = "auto";
  std::vector<std::string> algorithms;
  int64_t rows = 4096;
  int64_t rows_at_most = 512;
};

// An algorithm beside float weights, for the layers it would quantize.
struct Line {
  std::string algorithm;
  int64_t layers = 0;
  LayerCost cost{};
  LayerCost as_float{};

  double times_faster() const { return as_float.seconds / cost.seconds; }
  // Within 5 % nothing is gained: single calls repeat no better than that.
  std::string verdict() const {
    if (times_faster() >= 1.05) return fmt::format("{:.1f} times faster", times_faster());
    const bool smaller = cost.bytes < as_float.bytes;
    return fmt::format("{} ({:.2f} times)", smaller ? "memory only" : "nothing here",
                       times_faster());
  }
};

bool is_attention_algorithm(const std::string& name) {
  const AlgorithmRow* row = find_algorithm(name);
  return row != nullptr && row->attention != nullptr;
}

bool wants_attentions(const Options& options) {
  return options.algorithms.empty() ||
         std::ranges::any_of(options.algorithms, is_attention_algorithm);
}

// Those of linears.
std::vector<std::string> chosen_algorithms(const Options& options) {
  std::vector<std::string> names;
  for (const std::string& name : options.algorithms) {
    if (!is_attention_algorithm(name)) names.emplace_back(served_algorithm(name).canonical);
  }
  if (!options.algorithms.empty()) return names;
  for (const AlgorithmRow& row : algorithm_rows()) {
    const bool linear = row.status == AlgorithmStatus::kServed && row.contract != nullptr;
    if (linear && row.name == row.canonical) names.emplace_back(row.name);
  }
  return names;
}

// Equal shapes become one.
void add_work(std::vector<LayerWork>& all, const LayerWork& work) {
  for (LayerWork& known : all) {
    if (known.m != work.m || known.n != work.n || known.k != work.k || known.bias != work.bias) {
      continue;
    }
    known.layers += work.layers;
    return;
  }
  all.push_back(work);
}

std::vector<LayerWork> work_of_shapes(const ShapeList& list) {
  std::vector<LayerWork> all;
  for (const LinearShape& shape : list.linears) {
    if (shape.k < kMinInFeatures) continue;
    add_work(all, {.m = shape.m, .n = shape.n, .k = shape.k, .layers = shape.calls});
  }
  return all;
}

std::vector<LayerWork> work_of_model(const Options& options, const WeightStore& source,
                                     const std::string& algorithm) {
  const ExportOptions how = {.algorithm = algorithm, .preset = options.preset};
  std::vector<LayerWork> all;
  for (const SelectedLayer& layer :
       select_layers(source, how, choose_preset(options.preset, source)).layers) {
    if (layer.algorithm == nullptr) continue;
    add_work(all, {.m = options.rows,
                   .n = layer.n,
                   .k = layer.k,
                   .bias = layer.has_bias ? HasBias::kYes : HasBias::kNo});
  }
  return all;
}

// Nothing where the weights do not tell, or FP8 attention is not for such heads.
std::optional<AttentionCallShape> call_of(const SelectedAttention& attention, int64_t rows,
                                          const WeightStore& source) {
  const TensorInfo* to_q = source.find(attention.name + ".to_q.weight");
  if (to_q == nullptr || to_q->shape.size() != 2) return {};
  const int64_t dim = attention.head_dim, width = to_q->shape[0];
  if (dim < 1 || dim > kFp8MaxHeadDim || width < dim || width % dim != 0) return {};
  return AttentionCallShape{
      .name = attention.name, .q = rows, .kv = rows, .heads = width / dim, .dim = dim, .calls = 1};
}

// Those that the preset knows and whose queries and keys are of the same tokens, every one of which
// sees all: of cross attentions a model's weights do not say how many there are.
std::vector<AttentionCallShape> attentions_of_model(const Options& options,
                                                    const WeightStore& source,
                                                    const Session& session) {
  const std::optional<Preset> preset = choose_preset(options.preset, source);
  if (!preset || preset->attentions.empty()) return {};
  std::vector<SelectedAttention> selected;
  try {
    selected = select_attentions(source, {.attentions = {{.algorithm = "fp8_dynamic"}}}, preset);
  } catch (const Error& error) {
    session.note(fmt::format("attentions are not measured: {}", bare_message(error)));
    return {};
  }
  std::vector<AttentionCallShape> calls;
  for (const SelectedAttention& attention : selected) {
    if (!share_input(*preset, attention.name + ".to_q", attention.name + ".to_k")) continue;
    if (std::optional<AttentionCallShape> call = call_of(attention, options.rows, source)) {
      calls.push_back(*std::move(call));
    } else {
      session.note(fmt::format("{} is not measured: {}.to_q.weight is not of whole heads of {}",
                               attention.name, attention.name, attention.head_dim));
    }
  }
  return calls;
}

Line measure(const std::string& algorithm, const std::vector<LayerWork>& work, LayerCosts& costs) {
  Line line = {.algorithm = algorithm};
  for (const LayerWork& one : work) {
    line.layers += one.layers;
    line.cost += costs.of(algorithm, one);
    line.as_float += costs.of("float", one);
  }
  return line;
}

// Beside attentions of BF16.
Line measure_attentions(const std::vector<AttentionCallShape>& calls, int64_t rows_at_most,
                        const ExecContext& ctx) {
  Line line = {.algorithm = "FP8_DYNAMIC (attention)"};
  for (const AttentionCallShape& shape : calls) line.layers += shape.calls;
  line.cost = attention_cost(AttentionWay::kFp8, calls, rows_at_most, ctx);
  line.as_float = attention_cost(AttentionWay::kFloat, calls, rows_at_most, ctx);
  return line;
}

void print_lines(const Session& session, const std::vector<Line>& lines) {
  TextTable table{{{"algorithm"},
                   {"layers", Align::kRight},
                   {"bytes", Align::kRight},
                   {"as float", Align::kRight},
                   {"a step", Align::kRight},
                   {"as float", Align::kRight},
                   {"what it gives"}},
                  {}};
  for (const Line& line : lines) {
    table.rows.push_back({line.algorithm, std::to_string(line.layers), human_bytes(line.cost.bytes),
                          human_bytes(line.as_float.bytes), human_seconds(line.cost.seconds),
                          human_seconds(line.as_float.seconds), line.verdict()});
  }
  std::string text = to_text(table);
  text.pop_back();  // print() ends the line
  session.print(text);
}

nlohmann::json to_json(const Line& line) {
  return {{"algorithm", line.algorithm},
          {"layers", line.layers},
          {"bytes", line.cost.bytes},
          {"float_bytes", line.as_float.bytes},
          {"seconds", line.cost.seconds},
          {"float_seconds", line.as_float.seconds},
          {"times_faster", line.times_faster()},
          {"verdict", line.verdict()}};
}

nlohmann::json to_json(const Options& options, const std::string& what, int threads,
                       const std::vector<Line>& lines) {
  nlohmann::json document = {{"of", what},
                             {"threads", threads},
                             {"isa", isa_name(active_isa())},
                             {"rows_at_most", options.rows_at_most},
                             {"algorithms", nlohmann::json::array()}};
  for (const Line& line : lines) document["algorithms"].push_back(to_json(line));
  return document;
}

void check_source(const Options& options) {
  if (options.model.empty() != options.shapes.empty()) return;
  throw Error(ErrorCode::kUsage, "bench measures one thing",
              {.expected = "a MODEL, or --shapes FILE",
               .found = options.model.empty() ? "neither" : "both"});
}

int run(Session& session, const Options& options) {
  check_source(options);
  const ExecContext ctx = session.context();
  std::optional<ShapeList> shapes;
  std::optional<WeightStore> source;
  if (!options.shapes.empty()) {
    shapes = read_shape_list(options.shapes, options.resolution);
  } else {
    source = WeightStore::open(options.model, options.component);
  }
  std::vector<AttentionCallShape> calls;
  if (wants_attentions(options)) {
    calls = shapes ? shapes->attentions : attentions_of_model(options, *source, session);
  }
  LayerCosts costs(options.rows_at_most, ctx);
  std::vector<Line> lines;
  for (const std::string& algorithm : chosen_algorithms(options)) {
    if (session.verbose()) session.note(algorithm);
    const std::vector<LayerWork> work =
        shapes ? work_of_shapes(*shapes) : work_of_model(options, *source, algorithm);
    if (!work.empty()) lines.push_back(measure(algorithm, work, costs));
  }
  if (!calls.empty()) lines.push_back(measure_attentions(calls, options.rows_at_most, ctx));
  const std::string what = shapes ? fmt::format("{} {}", shapes->model, shapes->resolution)
                                  : fmt::format("{}, {} rows", options.model, options.rows);
  if (lines.empty()) {
    throw Error(ErrorCode::kUsage, "no layer would be quantized",
                {.file = options.model, .fix = "--preset none takes every 2-D weight"});
  }
  session.print(fmt::format("{}: linears on random weights{}, {}, {}", printable(what),
                            calls.empty() ? "" : " and attentions", plural(ctx.threads(), "thread"),
                            isa_name(active_isa())));
  print_lines(session, lines);
  session.emit(to_json(options, what, ctx.threads(), lines));
  return 0;
}

}  // namespace

RunVerb define_bench(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model,
                 "weights, index.json or folder: the layers that quantize would convert");
  app.add_option("--shapes", options->shapes, "shapes instead, such as bench/shapes/flux.txt")
      ->type_name("FILE");
  app.add_option("--resolution", options->resolution, "of the shapes; default: their first")
      ->type_name("NAME");
  app.add_option("--algo", options->algorithms, "only these, comma separated; default: all")
      ->type_name("NAME,...")
      ->delimiter(',');
  app.add_option("--rows", options->rows, "tokens of a MODEL's step (4096)")
      ->type_name("M")
      ->check(count_between(1, 10'000'000));
  app.add_option("--rows-at-most", options->rows_at_most,
                 "measure with so many, count in proportion (512)")
      ->type_name("M")
      ->check(count_between(1, 10'000'000));
  app.add_option("--preset", options->preset, "auto, none or a name of `presets`")
      ->type_name("NAME");
  app.add_option("--component", options->component, "part of a pipeline folder")->type_name("NAME");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
