// What is known about this machine and this build: doctor and the environment part of reports.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mezzotint/context.h"

namespace mezzotint::cli {

struct MachineFact {
  std::string name;
  std::string value;
  std::string warning{};  // empty: nothing to worry about
};

std::vector<MachineFact> machine_facts(const ExecContext& ctx);

std::string processor_name();
int64_t available_memory_bytes();  // 0: unknown
// Highest resident memory of this process so far (VmHWM); 0: unknown.
int64_t peak_memory_bytes();

}  // namespace mezzotint::cli
