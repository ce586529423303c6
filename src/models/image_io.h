// PNG files.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "models/image.h"

namespace mezzotint {

// 8 bits per channel, byte = round(255 * clamp(value, 0, 1)).
std::vector<std::byte> encode_png(const Image& image);
void write_png(const std::filesystem::path& file, const Image& image);
// Keeps grey, RGB or RGBA of the file. Throws Error(kInput).
Image read_png(const std::filesystem::path& file);

// "data:image/png;base64,..." for self-contained HTML.
std::string png_data_uri(const Image& image);
std::string base64(std::span<const std::byte> bytes);

}  // namespace mezzotint
