#include "cli/session.h"

#include <ostream>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/env.h"
#include "cli/text.h"

namespace mezzotint::cli {
namespace {

const char* escape_of(Tone tone) {
  switch (tone) {
    case Tone::kPlain:
      return "";
    case Tone::kBold:
      return "\033[1m";
    case Tone::kDim:
      return "\033[2m";
    case Tone::kGood:
      return "\033[32m";
    case Tone::kWarn:
      return "\033[33m";
    case Tone::kBad:
      return "\033[1;31m";
  }
  return "";
}

std::string painted(Tone tone, std::string_view text, bool color) {
  if (!color || tone == Tone::kPlain) return std::string(text);
  return fmt::format("{}{}\033[0m", escape_of(tone), text);
}

LogLevel log_level(Verbosity verbosity) {
  switch (verbosity) {
    case Verbosity::kQuiet:
      return LogLevel::kError;
    case Verbosity::kNormal:
      return LogLevel::kWarn;
    case Verbosity::kVerbose:
      return LogLevel::kInfo;
    case Verbosity::kDebug:
      return LogLevel::kDebug;
  }
  return LogLevel::kWarn;
}

const char* log_prefix(LogLevel level) {
  constexpr const char* kPrefixes[] = {"error: ", "warning: ", "", "debug: ", "trace: "};
  return kPrefixes[static_cast<size_t>(level)];
}

}  // namespace

Session::Session(Terminal terminal, std::vector<std::string> arguments, std::ostream& out,
                 std::ostream& err)
    : terminal_(terminal), arguments_(std::move(arguments)), out_(&out), err_(&err) {}

ExecContext Session::context() const {
  ExecOptions exec;
  exec.threads = options.threads;
  exec.log.level = log_level(options.verbosity);
  exec.log.sink = [err = err_](LogLevel level, std::string_view message) {
    *err << fmt::format("{}{}\n", log_prefix(level), message) << std::flush;
  };
  return ExecContext(exec);
}

std::string Session::command() const {
  std::string text = "mezzotint";
  for (const std::string& argument : arguments_) text += " " + shell_quoted(argument);
  return text;
}

void Session::print(std::string_view line) const {
  if (!options.json) *out_ << line << '\n' << std::flush;
}

void Session::emit(const nlohmann::json& document) const {
  // Names come from files: invalid UTF-8 must not end in an exception.
  constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
  if (options.json) *out_ << document.dump(2, ' ', false, kReplace) << '\n' << std::flush;
}

void Session::note(std::string_view line) const {
  if (!quiet()) *err_ << line << '\n' << std::flush;
}

Progress Session::progress(std::string title) const {
  ProgressMode mode = options.progress;
  if (mode == ProgressMode::kAuto) {
    mode = terminal_.err_is_tty ? ProgressMode::kBar : ProgressMode::kPlain;
  }
  if (quiet()) mode = ProgressMode::kNone;
  return Progress(*err_, mode, terminal_.columns, std::move(title));
}

bool Session::colored(bool is_tty) const {
  switch (options.color) {
    case ColorMode::kAlways:
      return true;
    case ColorMode::kNever:
      return false;
    case ColorMode::kAuto:
      return is_tty && !env("NO_COLOR") && env("TERM") != "dumb";
  }
  return false;
}

std::string Session::paint(Tone tone, std::string_view text) const {
  return painted(tone, text, colored(terminal_.out_is_tty));
}

std::string Session::paint_err(Tone tone, std::string_view text) const {
  return painted(tone, text, colored(terminal_.err_is_tty));
}

}  // namespace mezzotint::cli
