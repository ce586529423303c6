#include "models/widen.h"

#include <string>

#include "mezzotint/error.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

FloatType float_type(DType dtype) {
  if (dtype == DType::kF32) return FloatType::kF32;
  if (dtype == DType::kBF16) return FloatType::kBF16;
  if (dtype == DType::kF16) return FloatType::kF16;
  throw Error(ErrorCode::kUnsupported, "cannot widen a tensor",
              {.expected = "F32, BF16 or F16", .found = std::string(dtype_name(dtype))});
}

}  // namespace

Tensor to_f32(const Tensor& tensor) {
  const FloatType type = float_type(tensor.dtype());
  if (type == FloatType::kF32) return tensor;
  Tensor wide = Tensor::allocate(DType::kF32, tensor.shape());
  auto* values = wide.mutable_data<float>();
  for (int64_t i = 0; i < tensor.size(); ++i) values[i] = load_float(tensor.raw(), type, i);
  return wide;
}

}  // namespace mezzotint
