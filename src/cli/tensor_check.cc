#include "cli/tensor_check.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "numerics/rounding.h"
#include "solve/widen.h"

namespace mezzotint::cli {
namespace {

constexpr int64_t kChunk = 1 << 16;  // elements widened at a time

std::string index_text(const Shape& shape, int64_t flat) {
  Shape index(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  return to_string(index);
}

}  // namespace

std::string non_finite_values(const Tensor& tensor) {
  if (!is_floating(tensor.dtype())) return "";
  std::vector<float> values;
  int64_t count = 0;
  int64_t first = -1;
  for (int64_t begin = 0; begin < tensor.size(); begin += kChunk) {
    values.resize(static_cast<size_t>(std::min(kChunk, tensor.size() - begin)));
    widen_range(tensor, begin, values);
    for (size_t i = 0; i < values.size(); ++i) {
      if (is_finite(values[i])) continue;
      if (count == 0) first = begin + static_cast<int64_t>(i);
      ++count;
    }
  }
  if (count == 0) return "";
  return fmt::format("{} NaN or infinite, the first at {}", count,
                     index_text(tensor.shape(), first));
}

}  // namespace mezzotint::cli
