// The most memory that this process has held since a reset. Tests only.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace mezzotint {

// VmHWM in bytes; -1 when unknown.
inline int64_t peak_resident() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    int64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return -1;
}

// False where the system has no such thing.
inline bool reset_peak_resident() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  return clear.good();
}

}  // namespace mezzotint
