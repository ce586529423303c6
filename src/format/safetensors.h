// The header of a safetensors file: 8 bytes length (little-endian), that many bytes of JSON, data.
//
//   SafetensorsHeader h = parse_safetensors_header(bytes, file_size, "model.safetensors");
//   const std::byte* w = file + h.data_start + h.tensors[0].begin;
//
// A pure function of its arguments. What it accepts satisfies everything a reader relies on: every
// range lies inside the file, no two overlap, none is missing, and shape x dtype is its length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/tensor.h"

namespace mezzotint {

constexpr int64_t kMaxSafetensorsHeader = 100'000'000;  // bytes; the limit of safetensors itself
constexpr size_t kMaxRank = 32;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t begin = 0;  // offsets from data_start
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // by offset
  std::map<std::string, std::string> metadata;
  int64_t data_start = 0;
};

// `bytes` is the beginning of the file: at least the length field and the header, possibly more.
// Throws Error(kInput) naming `file_name`, the tensor and what to do. Allocates in proportion to
// the bytes it is given, never by a number that stands in them.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> bytes, int64_t file_size,
                                           std::string_view file_name);

}  // namespace mezzotint
