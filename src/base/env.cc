#include "base/env.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

std::optional<int> parse_int(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int env_int(const char* name, int minimum, const char* expected) {
  const std::string text = env(name).value_or("");
  const std::optional<int> value = parse_int(text);
  if (!value || *value < minimum) {
    throw Error(ErrorCode::kUsage, std::string("the environment variable ") + name + " is wrong",
                {.expected = expected,
                 .found = "\"" + text + "\"",
                 .fix = std::string("correct or unset ") + name});
  }
  return *value;
}

struct RankVariables {
  const char* rank;
  const char* size;
};

constexpr RankVariables kMpiVariables[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE"},
};
constexpr RankVariables kRankVariables[] = {
    kMpiVariables[0],
    kMpiVariables[1],
    {"RANK", "WORLD_SIZE"},
};

// Of a job of several processes.
std::optional<LaunchedAs> read_launch(const RankVariables& names) {
  if (!env(names.rank) || !env(names.size)) return std::nullopt;
  const int size = env_int(names.size, 0, "a number of processes");
  if (size <= 1) return std::nullopt;
  const int rank = env_int(names.rank, 0, "a rank");
  if (rank >= size) {
    throw Error(ErrorCode::kUsage, std::string("the rank in ") + names.rank + " is too large",
                {.expected = "less than " + std::to_string(size) + " (" + names.size + ")",
                 .found = std::to_string(rank)});
  }
  return LaunchedAs{.rank = rank, .world = size};
}

}  // namespace

std::optional<std::string> env(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

std::optional<int> env_threads() {
  if (!env("MEZZOTINT_NUM_THREADS")) return std::nullopt;
  return env_int("MEZZOTINT_NUM_THREADS", 1, "a positive number");
}

std::optional<int> env_rank() {
  for (const RankVariables& names : kRankVariables) {
    if (const std::optional<LaunchedAs> launched = read_launch(names)) return launched->rank;
  }
  return std::nullopt;
}

std::optional<LaunchedAs> env_launch() {
  for (const RankVariables& names : kMpiVariables) {
    if (const std::optional<LaunchedAs> launched = read_launch(names)) return launched;
  }
  return std::nullopt;
}

}  // namespace mezzotint
