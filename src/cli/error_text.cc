#include "cli/error_text.h"

#include <array>
#include <utility>

#include <nlohmann/json.hpp>

#include "cli/text.h"

namespace mezzotint::cli {
namespace {

struct NamedDetail {
  const char* name;
  std::string ErrorDetails::* member;
};

constexpr std::array<NamedDetail, 4> kPlaces = {{{"layer", &ErrorDetails::layer},
                                                 {"tensor", &ErrorDetails::tensor},
                                                 {"file", &ErrorDetails::file},
                                                 {"fix", &ErrorDetails::fix}}};

// Layer names and shapes may come from a hostile file.
std::string shown(std::string_view text) {
  constexpr size_t kMaxBytes = 1000;
  if (text.size() <= kMaxBytes) return printable(text);
  return printable(text.substr(0, kMaxBytes)) + "... (" + std::to_string(text.size()) + " bytes)";
}

}  // namespace

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInternal:
      return "internal";
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kInput:
      return "input";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kStrict:
      return "strict";
    case ErrorCode::kQuality:
      return "quality";
    case ErrorCode::kResources:
      return "resources";
    case ErrorCode::kInterrupted:
      return "interrupted";
  }
  return "internal";
}

std::string bare_message(const Error& error) {
  // The same details after an empty message give exactly what was appended.
  const std::string appended = Error(error.code(), "", error.details()).what();
  std::string text = error.what();
  if (text.ends_with(appended)) text.resize(text.size() - appended.size());
  return text;
}

std::string error_text(const Error& error) {
  const ErrorDetails& details = error.details();
  std::string text = bare_message(error);
  if (!details.expected.empty()) text += ": expected " + shown(details.expected);
  if (!details.found.empty()) {
    text += (details.expected.empty() ? ": got " : ", got ") + shown(details.found);
  }
  for (const NamedDetail& place : kPlaces) {
    const std::string& value = details.*place.member;
    if (!value.empty()) text += std::string("\n  ") + place.name + ": " + shown(value);
  }
  if (error.code() == ErrorCode::kInternal) {
    text += "\n  This is a bug in mezzotint. Please report it with the command and this text.";
  }
  return text;
}

nlohmann::json error_json(const Error& error) {
  const ErrorDetails& details = error.details();
  nlohmann::json body = {{"code", error_code_name(error.code())},
                         {"exit_code", static_cast<int>(error.code())},
                         {"message", bare_message(error)}};
  if (!details.expected.empty()) body["expected"] = details.expected;
  if (!details.found.empty()) body["got"] = details.found;
  for (const NamedDetail& place : kPlaces) {
    const std::string& value = details.*place.member;
    if (!value.empty()) body[place.name] = value;
  }
  return {{"error", std::move(body)}};
}

}  // namespace mezzotint::cli
