#include "solve/panelled_matrix.h"

#include <algorithm>

#include "base/check.h"
#include "base/cpu_features.h"
#include "kernels/float_product.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kPanel = 16;  // columns of add_product's tile

}  // namespace

PanelledMatrix::PanelledMatrix(const Tensor& m) : r_(m.dim(0)) {
  const int64_t k = m.dim(1);
  panels_.resize(static_cast<size_t>((k + kPanel - 1) / kPanel * kPanel * r_));
  std::vector<float> row(static_cast<size_t>(k));
  for (int64_t i = 0; i < r_; ++i) {
    widen_range(m, i * k, row);
    for (int64_t first = 0; first < k; first += kPanel) {
      std::copy_n(row.data() + first, std::min(kPanel, k - first),
                  panels_.data() + first * r_ + i * kPanel);
    }
  }
}

void PanelledMatrix::add_product(const float* a, const RowTile& part) const {
  MZ_CHECK(part.column % kPanel == 0);
  MZ_CHECK((part.column + part.columns) * r_ <= static_cast<int64_t>(panels_.size()));
  const AddProductFn add = mezzotint::add_product(active_isa());
  for (int64_t first = 0; first < part.columns; first += kPanel) {
    add({.a = a,
         .a_row = r_,
         .a_step = 1,
         .b = panels_.data() + (part.column + first) * r_,
         .b_step = kPanel,
         .c = part.data + first,
         .c_row = part.stride,
         .rows = part.rows,
         .steps = r_,
         .columns = std::min(kPanel, part.columns - first)});
  }
}

}  // namespace mezzotint
