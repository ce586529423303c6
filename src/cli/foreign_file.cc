#include "cli/foreign_file.h"

#include <algorithm>
#include <array>
#include <fstream>

namespace mezzotint::cli {
namespace {

struct Magic {
  std::string_view bytes;
  std::string_view meaning;
};

constexpr Magic kMagics[] = {
    {"GGUF", "a GGUF file (stable-diffusion.cpp, ComfyUI-GGUF)"},
    {"PK\x03\x04", "a zip archive, as torch.save writes (a pickle: never opened)"},
    {"\x80\x02", "a Python pickle (never opened: it can run code)"},
    {"\x80\x03", "a Python pickle (never opened: it can run code)"},
    {"\x80\x04", "a Python pickle (never opened: it can run code)"},
    {"\x89HDF", "an HDF5 file"},
    {"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"},
};

enum class Sign : uint8_t { kTensorSuffix, kMetadataKey };

struct DialectRow {
  Sign sign;
  std::string_view text;
  Dialect dialect;
};

// Signs of a file that was quantized by another tool; the first that is found decides.
constexpr DialectRow kDialects[] = {
    {Sign::kTensorSuffix,
     ".comfy_quant",
     {"ComfyUI quantized safetensors", "not read by this version"}},
    {Sign::kMetadataKey,
     "_quantization_metadata",
     {"ComfyUI quantized safetensors", "not read by this version"}},
    {Sign::kTensorSuffix,
     ".weight_packed",
     {"compressed-tensors (packed)", "not read by this version"}},
    {Sign::kTensorSuffix, ".wscales", {"nunchaku", "not read by this version"}},
    {Sign::kTensorSuffix, ".qweight", {"AWQ or GPTQ packed", "not read by this version"}},
    {Sign::kTensorSuffix, ".SCB", {"bitsandbytes LLM.int8", "not read by this version"}},
    {Sign::kTensorSuffix, ".absmax", {"bitsandbytes 4-bit", "not read by this version"}},
    {Sign::kTensorSuffix,
     ".deq_scale",
     {"quantized weights without their descriptor",
      "put quant_model_description*.json beside them and give the folder"}},
    {Sign::kTensorSuffix,
     ".weight_offset",
     {"quantized weights without their descriptor",
      "put quant_model_description*.json beside them and give the folder"}},
    {Sign::kTensorSuffix,
     ".weight_scale",
     {"quantized weights without their descriptor",
      "put quant_model_description*.json beside them and give the folder"}},
};

bool shows(const DialectRow& row, const WeightStore& store) {
  if (row.sign == Sign::kMetadataKey) return store.metadata().contains(std::string(row.text));
  return std::ranges::any_of(store.tensors(),
                             [&](const TensorInfo& t) { return t.name.ends_with(row.text); });
}

}  // namespace

std::string foreign_container(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::array<char, 32> head{};
  in.read(head.data(), head.size());
  const std::string_view bytes(head.data(), static_cast<size_t>(in.gcount()));
  for (const Magic& magic : kMagics) {
    if (bytes.starts_with(magic.bytes)) return std::string(magic.meaning);
  }
  return "";
}

Dialect dialect_of(const WeightStore& store) {
  for (const DialectRow& row : kDialects) {
    if (shows(row, store)) return row.dialect;
  }
  return {"float safetensors", ""};
}

}  // namespace mezzotint::cli
