// Every environment variable the library reads, and the only place that reads them.
#pragma once

#include <optional>
#include <string>

namespace mezzotint {

// The value, or nullopt when unset or empty.
std::optional<std::string> env(const char* name);

// MEZZOTINT_NUM_THREADS; throws Error(kUsage) unless it is a positive integer.
std::optional<int> env_threads();

// Rank from OMPI_COMM_WORLD_RANK/SIZE, PMI_RANK/SIZE or RANK/WORLD_SIZE when the size is > 1.
std::optional<int> env_rank();

// The same of what mpirun sets alone: a launcher that starts one program several times for one job.
struct LaunchedAs {
  int rank = 0;
  int world = 1;
};
std::optional<LaunchedAs> env_launch();

}  // namespace mezzotint
