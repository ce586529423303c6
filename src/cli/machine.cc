#include "cli/machine.h"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <tbb/version.h>
#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#include "base/cpu_features.h"
#include "base/env.h"
#include "cli/text.h"
#include "mezzotint/version.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLittleMemory = 2'000'000'000;
constexpr int64_t kLittleDisk = 1'000'000'000;

// The value of "key   : value" in a /proc file; the first one.
std::string proc_value(const char* file, std::string_view key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

// "16384 kB" in bytes.
int64_t proc_bytes(const char* file, std::string_view key) {
  const std::string value = proc_value(file, key);
  int64_t kilobytes = 0;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), kilobytes);
  return parsed.ec == std::errc() ? kilobytes * 1024 : 0;
}

std::string compiler_name() {
#if defined(__clang__)
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#elif defined(__GNUC__)
  return fmt::format("g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

std::string build_name() {
  std::string name = compiler_name();
#ifdef NDEBUG
  name += ", release";
#else
  name += ", with assertions";
#endif
#if defined(__SANITIZE_ADDRESS__)
  name += ", address sanitizer";
#endif
#if defined(__SANITIZE_THREAD__)
  name += ", thread sanitizer";
#endif
  return name;
}

std::string library_versions() {
  return fmt::format("oneTBB {}, fmt {}.{}.{}, nlohmann-json {}.{}.{}, CLI11 {}",
                     TBB_runtime_version(), FMT_VERSION / 10000, FMT_VERSION / 100 % 100,
                     FMT_VERSION % 100, NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                     NLOHMANN_JSON_VERSION_PATCH, CLI11_VERSION);
}

MachineFact isa_fact() {
  const Isa detected = detected_isa();
  const Isa active = active_isa();
  MachineFact fact{.name = "instructions", .value = std::string(isa_name(active))};
  if (active < detected) {
    fact.warning = fmt::format("the processor has {}; MEZZOTINT_ISA caps it", isa_name(detected));
  } else if (detected == Isa::kPortable) {
    fact.warning = "no AVX2: only the portable kernels run, expect little speed";
  }
  return fact;
}

MachineFact memory_fact() {
  const int64_t available = available_memory_bytes();
  MachineFact fact{.name = "memory",
                   .value = fmt::format("{} available of {}", human_bytes(available),
                                        human_bytes(proc_bytes("/proc/meminfo", "MemTotal")))};
  if (available > 0 && available < kLittleMemory) {
    fact.warning = "little free memory: a model of that size will not load";
  }
  return fact;
}

MachineFact disk_fact() {
  std::error_code failed;
  const fs::space_info space = fs::space(".", failed);
  if (failed) return {.name = "disk here", .value = "unknown: " + failed.message()};
  const auto available = static_cast<int64_t>(space.available);
  MachineFact fact{.name = "disk here", .value = human_bytes(available) + " free"};
  if (available < kLittleDisk) fact.warning = "little free disk space";
  return fact;
}

std::vector<MachineFact> environment_facts() {
  std::vector<MachineFact> facts;
  for (const char* name : {"MEZZOTINT_ISA", "MEZZOTINT_NUM_THREADS", "NO_COLOR"}) {
    facts.push_back({.name = name, .value = env(name).value_or("not set")});
  }
  const std::optional<int> rank = env_rank();
  facts.push_back({.name = "rank", .value = rank ? std::to_string(*rank) : "none"});
  return facts;
}

}  // namespace

std::string processor_name() {
  const std::string name = proc_value("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown" : printable(name);
}

int64_t available_memory_bytes() { return proc_bytes("/proc/meminfo", "MemAvailable"); }

int64_t peak_memory_bytes() { return proc_bytes("/proc/self/status", "VmHWM"); }

std::vector<MachineFact> machine_facts(const ExecContext& ctx) {
  std::vector<MachineFact> facts = {
      {.name = "mezzotint", .value = version()},
      {.name = "build", .value = build_name()},
      {.name = "libraries", .value = library_versions()},
      {.name = "processor", .value = processor_name()},
      isa_fact(),
      {.name = "threads", .value = std::to_string(ctx.threads())},
      memory_fact(),
      disk_fact(),
      {.name = "GPU", .value = "not used: this version computes on the processor"},
  };
  for (MachineFact& fact : environment_facts()) facts.push_back(std::move(fact));
  return facts;
}

}  // namespace mezzotint::cli
