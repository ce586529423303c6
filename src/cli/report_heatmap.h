// SQNR of every layer as a picture: one column per block, one row per role in the block.
#pragma once

#include <string>

#include "mezzotint/report.h"

namespace mezzotint::cli {

// Layers are placed by their names, "PREFIX.7.ROLE"; others are left out. "" when none has such a
// name and a known SQNR.
std::string heatmap_html(const Report& report);

}  // namespace mezzotint::cli
