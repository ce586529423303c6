#include <iterator>

#include "mezzotint/tensor.h"

namespace mezzotint {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  int64_t bytes;
  bool floating;
};

constexpr DTypeRow kRows[] = {
#define MZ_DTYPE(enumerator, name, bytes, floating) {DType::enumerator, name, bytes, floating},
#include "tensor/dtypes.inc"
#undef MZ_DTYPE
};

constexpr bool rows_follow_the_enumeration() {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (kRows[i].dtype != static_cast<DType>(i)) return false;
  }
  return std::size(kRows) == static_cast<size_t>(DType::kF8E8M0) + 1;
}
static_assert(rows_follow_the_enumeration());

const DTypeRow& row(DType dtype) noexcept { return kRows[static_cast<size_t>(dtype)]; }

}  // namespace

int64_t dtype_size(DType dtype) noexcept { return row(dtype).bytes; }

std::string_view dtype_name(DType dtype) noexcept { return row(dtype).name; }

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const DTypeRow& r : kRows) {
    if (r.name == name) return r.dtype;
  }
  return std::nullopt;
}

bool is_floating(DType dtype) noexcept { return row(dtype).floating; }

}  // namespace mezzotint
