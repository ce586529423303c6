#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/machine.h"
#include "cli/verbs/verb.h"

namespace mezzotint::cli {
namespace {

int run(Session& session) {
  const std::vector<MachineFact> facts = machine_facts(session.context());
  nlohmann::json document = nlohmann::json::object();
  nlohmann::json warnings = nlohmann::json::array();
  size_t width = 0;
  for (const MachineFact& fact : facts) width = std::max(width, fact.name.size());
  for (const MachineFact& fact : facts) {
    document[fact.name] = fact.value;
    session.print(fmt::format("{:<{}}  {}", fact.name, width, fact.value));
    if (fact.warning.empty()) continue;
    warnings.push_back(fact.warning);
    session.print(
        fmt::format("{:<{}}  {}", "", width, session.paint(Tone::kWarn, "! " + fact.warning)));
  }
  session.print("");
  session.print(warnings.empty() ? session.paint(Tone::kGood, "no problem found")
                                 : fmt::format("{} to look at", warnings.size()));
  session.emit({{"machine", document}, {"warnings", warnings}});
  return 0;
}

}  // namespace

RunVerb define_doctor(CLI::App&) {
  return [](Session& session) { return run(session); };
}

}  // namespace mezzotint::cli
