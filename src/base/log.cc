#include "base/log.h"

#include <cstdio>
#include <string>

namespace mezzotint {
namespace {

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return "error";
    case LogLevel::kWarn:
      return "warning";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kTrace:
      return "trace";
  }
  return "log";
}

}  // namespace

void log(const Log& log, LogLevel level, std::string_view message) {
  if (level > log.level) return;
  if (log.sink) {
    log.sink(level, message);
    return;
  }
  std::string line = level_name(level);
  line += ": ";
  line += message;
  line += '\n';
  // One call, so that lines of several threads do not mix.
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace mezzotint
