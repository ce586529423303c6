// The one exception type of the library.
//
//   throw Error(ErrorCode::kInput, "weight_scale has the wrong shape",
//               {.layer = "blocks.3.attn.to_q", .file = path, .expected = "[3072,1]",
//                .found = "[9216,1]", .fix = "export again from split q/k/v weights"});
//
// what() reads "weight_scale has the wrong shape: expected [3072,1], got [9216,1]
// (layer blocks.3.attn.to_q, file ...)\n  fix: export again ...".
// The numeric value of a code is the exit code of the command line tool.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "mezzotint/export.h"

namespace mezzotint {

enum class ErrorCode : int {
  kInternal = 1,     // a bug of ours
  kUsage = 2,        // unknown option, pattern that matches nothing
  kInput = 3,        // unreadable or corrupt file
  kUnsupported = 4,  // algorithm, dtype or hardware we do not serve
  kStrict = 5,       // something that was asked for was not done
  kQuality = 6,      // a quality gate failed
  kResources = 7,    // memory or disk
  kInterrupted = 130,
};

struct ErrorDetails {
  std::string layer{};
  std::string tensor{};
  std::string file{};
  std::string expected{};
  std::string found{};
  std::string fix{};
};

class MZ_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string_view what, ErrorDetails details = {});
  ~Error() override;

  ErrorCode code() const noexcept { return code_; }
  const ErrorDetails& details() const noexcept { return details_; }

 private:
  ErrorCode code_;
  ErrorDetails details_;
};

}  // namespace mezzotint
