// Which model a file of statistics belongs to.
#pragma once

#include <string>

#include "mezzotint/weights.h"

namespace mezzotint {

// A hash of every tensor's name, dtype and shape and of the first and last bytes of its values, in
// the order of names: the same for one file and for shards, another for other weights of the same
// architecture. Reads a few KiB per tensor, whatever its size.
std::string model_identity(const WeightStore& store);

}  // namespace mezzotint
