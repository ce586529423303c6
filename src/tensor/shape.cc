#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mezzotint/error.h"
#include "mezzotint/tensor.h"

namespace mezzotint {
namespace {

int64_t product(int64_t start, const Shape& shape) {
  int64_t total = start;
  for (const int64_t dim : shape) {
    if (dim < 0) {
      throw Error(ErrorCode::kInput, "a shape has a negative dimension",
                  {.found = to_string(shape)});
    }
    if (__builtin_mul_overflow(total, dim, &total)) {
      throw Error(ErrorCode::kInput, "a shape has more elements than fit into memory",
                  {.expected = "less than 2^63 bytes", .found = to_string(shape)});
    }
  }
  return total;
}

}  // namespace

int64_t element_count(const Shape& shape) { return product(1, shape); }

int64_t byte_count(DType dtype, const Shape& s) { return product(dtype_size(dtype), s); }

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

}  // namespace mezzotint
