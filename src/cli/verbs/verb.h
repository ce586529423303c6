// The table of verbs: one row and one file each.
//
// A verb adds its options to a CLI11 app and returns what runs once they are parsed. It prints
// through the Session, returns the exit code and throws Error for everything that goes wrong.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "cli/session.h"

namespace CLI {
class App;
}

namespace mezzotint::cli {

using RunVerb = std::function<int(Session&)>;

struct Verb {
  std::string_view name;
  std::string_view summary;
  RunVerb (*define)(CLI::App& app);
};

std::span<const Verb> verb_table();

RunVerb define_analyze(CLI::App& app);
RunVerb define_bench(CLI::App& app);
RunVerb define_collect(CLI::App& app);
RunVerb define_compare(CLI::App& app);
RunVerb define_demo(CLI::App& app);
RunVerb define_dequantize(CLI::App& app);
RunVerb define_doctor(CLI::App& app);
RunVerb define_generate(CLI::App& app);
RunVerb define_help(CLI::App& app);
RunVerb define_inspect(CLI::App& app);
RunVerb define_list_algorithms(CLI::App& app);
RunVerb define_list_kernels(CLI::App& app);
RunVerb define_presets(CLI::App& app);
RunVerb define_quantize(CLI::App& app);
RunVerb define_stats(CLI::App& app);

}  // namespace mezzotint::cli
