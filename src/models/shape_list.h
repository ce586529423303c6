// The linears and attentions of one forward of a model, as a text file (bench/shapes/*.txt):
//
//   model FLUX.1-dev
//   tokens 1024x1024  img 4096  txt 512
//   linear img  12288  3072  19  transformer_blocks.*.ff.net.0.proj    # rows n k calls name
//   attention joint joint 24 128 57 joint_self                         # q kv heads dim calls name
//
// Rows are a number or img, txt, joint (both) or cond (one per sample); the first resolution is
// the default. '#' starts a comment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mezzotint {

struct LinearShape {
  std::string name;
  int64_t m = 0, n = 0, k = 0;
  int64_t calls = 0;  // per forward

  bool operator==(const LinearShape&) const = default;
};

struct AttentionCallShape {
  std::string name;
  int64_t q = 0, kv = 0;  // tokens
  int64_t heads = 0, dim = 0;
  int64_t calls = 0;

  bool operator==(const AttentionCallShape&) const = default;
};

struct ShapeList {
  std::string model;
  std::string resolution;  // that the rows are of; empty when the file names none
  std::vector<std::string> resolutions{};
  std::vector<LinearShape> linears{};
  std::vector<AttentionCallShape> attentions{};
};

// Throws Error(kInput), naming file and line, for what is not of this form, and Error(kUsage) for a
// resolution that the file does not have.
ShapeList read_shape_list(const std::filesystem::path& file, std::string_view resolution = {});

// Shapes that are computed alike become one: calls are added, the first name stands.
std::vector<LinearShape> distinct(const std::vector<LinearShape>& shapes);
std::vector<AttentionCallShape> distinct(const std::vector<AttentionCallShape>& shapes);

}  // namespace mezzotint
