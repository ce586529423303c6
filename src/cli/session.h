// What every verb runs with: the options that all verbs share, the streams, and how to talk.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/progress.h"
#include "mezzotint/context.h"

namespace mezzotint::cli {

enum class ColorMode : uint8_t { kAuto, kAlways, kNever };
enum class Verbosity : uint8_t { kQuiet, kNormal, kVerbose, kDebug };

// What the two streams are attached to; a default-made one is a file or a pipe.
struct Terminal {
  bool out_is_tty = false;
  bool err_is_tty = false;
  int columns = 80;
};

struct GlobalOptions {
  bool json = false;
  int threads = 0;  // 0: the library's default
  Verbosity verbosity = Verbosity::kNormal;
  ProgressMode progress = ProgressMode::kAuto;
  ColorMode color = ColorMode::kAuto;
};

enum class Tone : uint8_t { kPlain, kBold, kDim, kGood, kWarn, kBad };

class Session {
 public:
  Session(Terminal terminal, std::vector<std::string> arguments, std::ostream& out,
          std::ostream& err);

  GlobalOptions options;

  ExecContext context() const;  // threads and log as the options say
  std::string command() const;  // "mezzotint quantize ...", quoted for a shell
  bool quiet() const noexcept { return options.verbosity == Verbosity::kQuiet; }
  bool verbose() const noexcept { return options.verbosity >= Verbosity::kVerbose; }

  // One line of a human-readable result; nothing with --json.
  void print(std::string_view line) const;
  // The machine-readable result; nothing without --json.
  void emit(const nlohmann::json& document) const;
  // One line on the error stream; nothing with -q.
  void note(std::string_view line) const;

  Progress progress(std::string title) const;
  std::string paint(Tone tone, std::string_view text) const;      // for print()
  std::string paint_err(Tone tone, std::string_view text) const;  // for note()
  std::ostream& err() const noexcept { return *err_; }

 private:
  bool colored(bool is_tty) const;

  Terminal terminal_;
  std::vector<std::string> arguments_;
  std::ostream* out_;
  std::ostream* err_;
};

}  // namespace mezzotint::cli
