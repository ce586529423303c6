// Pictures of pictures: differences and contact sheets.
#pragma once

#include <cstdint>
#include <vector>

#include "models/image.h"

namespace mezzotint::cli {

// min(1, factor |a - b|) per channel; both of one size.
Image enlarged_difference(const Image& a, const Image& b, float factor);

// Rows of RGB images of one size, every pixel as zoom x zoom, with a gap between them.
Image image_sheet(const std::vector<std::vector<Image>>& rows, int64_t zoom, int64_t gap);

}  // namespace mezzotint::cli
