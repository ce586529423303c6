// The tables of docs/algorithms.md, from the rows.
#include <set>

#include <fmt/format.h>

#include "quant/algorithm.h"

namespace mezzotint {
namespace {

std::string_view status_text(const AlgorithmRow& row) {
  switch (row.status) {
    case AlgorithmStatus::kServed:
      return row.parameters.needs_statistics ? "yes; writing needs statistics" : "yes";
    case AlgorithmStatus::kPlanned:
      return "refused with an error";
    case AlgorithmStatus::kForeign:
      return "no";
  }
  return "";
}

// '|' separates the alternatives of a shape, and the columns of a table.
std::string shapes_text(std::string_view shapes) {
  std::string text = "[";
  for (const char c : shapes) {
    if (c == '|') {
      text += "] or [";
    } else if (c != ' ') {
      text += c;
    }
  }
  return text + "]";
}

std::string_view owner_letter(const ParamSpec& spec) {
  if (spec.attention_field != nullptr) return "A";
  return spec.prefix == PrefixRule::kLayer ? "X" : "P";
}

std::string param_row(const ParamSpec& spec) {
  return fmt::format("| `{}.{}` | {} | {} | {} | {} | {} |\n", owner_letter(spec), spec.suffix,
                     expected_dtypes(spec.dtypes), shapes_text(spec.shapes),
                     spec.presence == Presence::kRequired ? "required" : "optional",
                     spec.label == LabelRule::kFloat ? "FLOAT" : "the algorithm", spec.meaning);
}

}  // namespace

std::string algorithms_markdown() {
  std::string text =
      "| label | file contract | read, run and written | what it is |\n|---|---|---|---|\n";
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.status == AlgorithmStatus::kForeign) continue;
    text += fmt::format("| {} | {} | {} | {} |\n", row.name, contract_name(row), status_text(row),
                        row.summary);
  }
  std::set<std::string_view> seen;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (contract_name(row).empty() || !seen.insert(contract_name(row)).second) continue;
    text += fmt::format("\nFile contract `{}`:\n\n", contract_name(row));
    text += "| tensor | dtype | shape | reading | label | meaning |\n|---|---|---|---|---|---|\n";
    for (const ParamSpec& spec : contract_tensors(row)) text += param_row(spec);
  }
  return text;
}

}  // namespace mezzotint
