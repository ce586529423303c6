#include "quant/coding.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/weight_decode.h"
#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/e8m0.h"
#include "numerics/nibbles.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int kInt4Lowest = -8;
constexpr int kInt4Highest = 7;
constexpr unsigned kNibble = 0xf;
constexpr uint8_t kE4M3Magnitude = 0x7f;  // all ones: NaN

constexpr std::string_view kGroups = ",G";

// --- shapes --------------------------------------------------------------------------------------

// The canonical shape of a field: G is left out where there is one group, T counts 1 where nothing
// is stacked.
Shape field_shape(const ParamSpec& spec, const LayerDims& dims) {
  LayerDims known = dims;
  known.steps = std::max<int64_t>(dims.steps, 1);
  std::string_view canonical = spec.canonical;
  if (dims.groups == 0 && canonical.ends_with(kGroups)) canonical.remove_suffix(kGroups.size());
  return written_shape(canonical, known);
}

// One value for all, as files of one scale per layer hold it.
Tensor spread(const Tensor& one, const Shape& shape) {
  Tensor all = Tensor::allocate(DType::kF32, shape);
  std::fill_n(all.mutable_data<float>(), all.size(), one.data<float>()[0]);
  return all;
}

Tensor in_field_shape(const CheckedTensor& checked, const Tensor& floats, const LayerDims& dims,
                      const LayerFile& file) {
  const Shape shape = field_shape(*checked.spec, dims);
  if (floats.size() == element_count(shape)) return floats.reshaped(shape);
  if (floats.size() == 1) return spread(floats, shape);
  throw Error(ErrorCode::kInput,
              fmt::format("{} has other groups than the layer's scales", checked.spec->suffix),
              layer_error(file, checked.name, to_string(shape), to_string(checked.tensor.shape()),
                          "export the layer again"));
}

// --- deq_scale -----------------------------------------------------------------------------------

// The low 32 bits of an I64 are a float; the exporters write nothing else there, device tools add
// flags above them.
Tensor deq_scale_floats(const Tensor& stored) {
  if (stored.dtype() != DType::kI64) return widened(stored);
  Tensor floats = Tensor::allocate(DType::kF32, stored.shape());
  std::transform(stored.data<int64_t>(), stored.data<int64_t>() + stored.size(),
                 floats.mutable_data<float>(),
                 [](int64_t v) { return std::bit_cast<float>(static_cast<uint32_t>(v)); });
  return floats;
}

void store_deq_scale(std::span<const float> scales, const Tensor& tensor) {
  if (tensor.dtype() != DType::kI64) {
    narrow_range(scales, tensor, 0);
    return;
  }
  std::ranges::transform(scales, tensor.mutable_data<int64_t>(),
                         [](float v) { return int64_t{std::bit_cast<int32_t>(v)}; });
}

// --- four bits -----------------------------------------------------------------------------------

// Where the nibble of element [n, k] stands in a file.
enum class NibbleForm : uint8_t { kBytes, kAlongK, kAlongN };

NibbleForm form_of(const Tensor& tensor, const LayerDims& dims) {
  if (tensor.dtype() == DType::kF8E4M3) return NibbleForm::kBytes;
  if (tensor.dim(0) == dims.n && tensor.dim(1) == dims.k && tensor.dtype() == DType::kI8 &&
      dims.k > 1) {
    return NibbleForm::kBytes;
  }
  return tensor.dim(0) == dims.n ? NibbleForm::kAlongK : NibbleForm::kAlongN;
}

// The nibble of one byte-sized code; nothing when it has none.
std::optional<unsigned> nibble_of_byte(Coding coding, std::byte byte) {
  if (coding == Coding::kInt4) {
    const auto code = static_cast<int8_t>(byte);
    if (code < kInt4Lowest || code > kInt4Highest) return std::nullopt;
    return static_cast<unsigned>(code) & kNibble;
  }
  const float value = e4m3_to_float(std::to_integer<uint8_t>(byte));
  const uint8_t code = e2m1_from_float(value, Rounding::kHalfEven);
  if (e2m1_to_float(code) != value) return std::nullopt;
  return code;
}

std::byte byte_of_nibble(Coding coding, unsigned nibble) {
  if (coding == Coding::kInt4) return static_cast<std::byte>(int4_from_nibble(nibble));
  return static_cast<std::byte>(
      e4m3_from_float(e2m1_to_float(static_cast<uint8_t>(nibble)), Rounding::kHalfEven));
}

void put_nibble(std::byte* codes, int64_t row_bytes, int64_t n, int64_t k, unsigned nibble) {
  std::byte& byte = codes[n * row_bytes + k / 2];
  byte |= static_cast<std::byte>(k % 2 == 0 ? nibble : nibble << 4);
}

unsigned nibble_at(const std::byte* codes, int64_t row_bytes, int64_t n, int64_t k) {
  const auto byte = std::to_integer<unsigned>(codes[n * row_bytes + k / 2]);
  return k % 2 == 0 ? byte & kNibble : byte >> 4;
}

unsigned stored_nibble(const Tensor& tensor, NibbleForm form, int64_t n, int64_t k) {
  if (form == NibbleForm::kAlongK) return nibble_at(tensor.raw(), tensor.dim(1), n, k);
  const auto byte = std::to_integer<unsigned>(tensor.raw()[n / 2 * tensor.dim(1) + k]);
  return n % 2 == 0 ? byte & kNibble : byte >> 4;
}

Tensor decode_nibbles(const CheckedTensor& checked, const LayerDims& dims, const LayerFile& file) {
  const Tensor& tensor = checked.tensor;
  const NibbleForm form = form_of(tensor, dims);
  if (form == NibbleForm::kAlongK && tensor.dtype() == DType::kU8 && dims.k % 2 == 0) return tensor;
  const int64_t row_bytes = (dims.k + 1) / 2;
  Tensor codes = Tensor::allocate(DType::kU8, {dims.n, row_bytes});
  std::byte* out = codes.buffer().mutable_data();
  std::memset(out, 0, static_cast<size_t>(codes.byte_size()));
  for (int64_t n = 0; n < dims.n; ++n) {
    for (int64_t k = 0; k < dims.k; ++k) {
      unsigned nibble = 0;
      if (form == NibbleForm::kBytes) {
        const std::byte byte = tensor.raw()[n * dims.k + k];
        const std::optional<unsigned> found = nibble_of_byte(checked.spec->coding, byte);
        if (!found) {
          throw Error(
              ErrorCode::kInput, "weight holds a code that cannot be right",
              layer_error(file, checked.name,
                          checked.spec->coding == Coding::kInt4
                              ? "int4 codes of [-8, 7]"
                              : "0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives",
                          fmt::format("the byte {} at [{},{}]", std::to_integer<int>(byte), n, k),
                          "the file is damaged, or its label is another algorithm's"));
        }
        nibble = *found;
      } else {
        nibble = stored_nibble(tensor, form, n, k);
      }
      put_nibble(out, row_bytes, n, k, nibble);
    }
  }
  return codes;
}

void encode_nibbles(Coding coding, const Tensor& field, const LayerDims& dims,
                    const Tensor& tensor) {
  const NibbleForm form = form_of(tensor, dims);
  std::byte* out = tensor.buffer().mutable_data();
  if (form == NibbleForm::kAlongK) {
    std::memcpy(out, field.raw(), static_cast<size_t>(field.byte_size()));
    return;
  }
  std::memset(out, 0, static_cast<size_t>(tensor.byte_size()));
  for (int64_t n = 0; n < dims.n; ++n) {
    for (int64_t k = 0; k < dims.k; ++k) {
      const unsigned nibble = nibble_at(field.raw(), field.dim(1), n, k);
      if (form == NibbleForm::kBytes) {
        out[n * dims.k + k] = byte_of_nibble(coding, nibble);
      } else {
        out[n / 2 * dims.k + k] |= static_cast<std::byte>(n % 2 == 0 ? nibble : nibble << 4);
      }
    }
  }
}

// --- damage --------------------------------------------------------------------------------------

void check_bytes(const CheckedTensor& checked, const LayerFile& file) {
  const bool is_scale = checked.spec->coding == Coding::kE8M0;
  const std::byte* bytes = checked.tensor.raw();
  for (int64_t i = 0; i < checked.tensor.size(); ++i) {
    const auto byte = std::to_integer<uint8_t>(bytes[i]);
    const bool is_nan = is_scale ? byte == kE8M0NaN : (byte & kE4M3Magnitude) == kE4M3Magnitude;
    if (!is_nan) continue;
    throw Error(
        ErrorCode::kInput,
        fmt::format("{} holds a value that cannot be right", checked.spec->suffix),
        layer_error(file, checked.name, "no NaN code", fmt::format("byte {} at {}", byte, i),
                    "the file is damaged: copy or export it again"));
  }
}

}  // namespace

Tensor decode_param(const CheckedTensor& checked, const LayerDims& dims, const LayerFile& file) {
  const ParamSpec& spec = *checked.spec;
  switch (spec.coding) {
    case Coding::kFloat:
      return in_field_shape(checked, widened(checked.tensor), dims, file);
    case Coding::kDeqScale:
      return in_field_shape(checked, deq_scale_floats(checked.tensor), dims, file);
    case Coding::kStored:
      return checked.tensor.reshaped(field_shape(spec, dims));
    case Coding::kE4M3:
    case Coding::kE8M0:
      check_bytes(checked, file);
      return checked.tensor.reshaped(field_shape(spec, dims));
    case Coding::kInt4:
    case Coding::kFp4:
      return decode_nibbles(checked, dims, file);
  }
  MZ_CHECK(false);
}

void encode_param(const ParamSpec& spec, const Tensor& field, const LayerDims& dims,
                  const Tensor& tensor) {
  if (field.empty()) {
    std::memset(tensor.buffer().mutable_data(), 0, static_cast<size_t>(tensor.byte_size()));
    return;
  }
  switch (spec.coding) {
    case Coding::kFloat:
      // A file of one scale per layer takes the first of the equal ones.
      narrow_range({field.data<float>(), static_cast<size_t>(tensor.size())}, tensor, 0);
      return;
    case Coding::kDeqScale:
      store_deq_scale({field.data<float>(), static_cast<size_t>(tensor.size())}, tensor);
      return;
    case Coding::kInt4:
    case Coding::kFp4:
      encode_nibbles(spec.coding, field, dims, tensor);
      return;
    case Coding::kStored:
    case Coding::kE4M3:
    case Coding::kE8M0:
      MZ_CHECK(field.dtype() == tensor.dtype() && field.byte_size() == tensor.byte_size());
      std::memcpy(tensor.buffer().mutable_data(), field.raw(),
                  static_cast<size_t>(field.byte_size()));
  }
}

Tensor encoded_param(const ParamSpec& spec, const Tensor& field, const LayerDims& dims, DType dtype,
                     const Shape& shape) {
  const bool codes = spec.coding == Coding::kInt4 || spec.coding == Coding::kFp4;
  const bool floats = spec.coding == Coding::kFloat || spec.coding == Coding::kDeqScale;
  const bool same = codes ? field.shape() == shape : field.byte_size() == byte_count(dtype, shape);
  if (!field.empty() && !floats && same && field.dtype() == dtype) {
    return {dtype, shape, field.buffer()};
  }
  Tensor tensor = Tensor::allocate(dtype, shape);
  encode_param(spec, field, dims, tensor);
  return tensor;
}

WrittenForm written_form(const ParamSpec& spec, const LayerDims& dims, Compat compat) {
  const bool nibbles = spec.coding == Coding::kInt4 || spec.coding == Coding::kFp4;
  const bool upstream_int4 = spec.coding == Coding::kInt4 && compat == Compat::kUpstream;
  if (upstream_int4 || (nibbles && dims.k % 2 != 0)) {
    return {spec.coding == Coding::kInt4 ? DType::kI8 : DType::kF8E4M3, {dims.n, dims.k}};
  }
  // Where a field may have groups and has them, its canonical shape is what we write.
  const bool grouped = dims.groups > 0 && spec.canonical.ends_with(kGroups);
  return {spec.dtypes.front(), written_shape(grouped ? spec.canonical : spec.shapes, dims)};
}

}  // namespace mezzotint
