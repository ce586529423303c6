// An error as a person reads it and as a program reads it.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "mezzotint/error.h"

namespace mezzotint::cli {

// "unsupported" for kUnsupported, ...
std::string_view error_code_name(ErrorCode code);

// What went wrong without the details that Error::what() appends.
std::string bare_message(const Error& error);

// error: what: expected .. got ..
//   layer: ..
//   file: ..
//   fix: ..
// Without the word "error", which the caller may paint; details that are empty have no line.
std::string error_text(const Error& error);

// {"error": {"code": "input", "exit_code": 3, "message": .., "expected": .., "got": .., ...}}
nlohmann::json error_json(const Error& error);

}  // namespace mezzotint::cli
