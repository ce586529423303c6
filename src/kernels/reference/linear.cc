#include "kernels/int8_vnni_layout.h"
#include "kernels/reference/rows.h"
#include "numerics/float_type.h"
#include "numerics/int8.h"

namespace mezzotint::reference {
namespace {

FloatType float_type(Element element) {
  if (element == Element::kBF16) return FloatType::kBF16;
  return element == Element::kF16 ? FloatType::kF16 : FloatType::kF32;
}

float bias_of(const LinearTile& tile, int64_t n) {
  return tile.bias == nullptr ? 0.0f : tile.bias[n];
}

// y[m,n] = value(m, n) over the tile.
template <typename Value>
void for_each_output(const LinearTile& tile, const Value& value) {
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    for (int64_t n = tile.n_begin; n < tile.n_end; ++n) {
      store_float(value(m, n), tile.y, tile.y_type, m * tile.y_stride + n);
    }
  }
}

// code(n, k) is the signed weight code.
template <typename Code>
float int8_dot(const LinearTile& tile, int64_t m, int64_t n, const Code& code) {
  int64_t acc = 0;
  for (int64_t k = 0; k < tile.k; ++k) {
    acc += static_cast<int64_t>(tile.xq[m * tile.xq_stride + k]) * code(n, k);
  }
  return int8_output(acc, tile.w_scale[n], tile.x_scale[m], bias_of(tile, n));
}

}  // namespace

void float_linear(const LinearTile& tile) noexcept {
  const FloatType w_type = float_type(tile.w_element);
  for_each_output(tile, [&](int64_t m, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < tile.k; ++k) {
      sum += static_cast<double>(load_float(tile.x, tile.x_type, m * tile.x_stride + k)) *
             load_float(tile.w, w_type, n * tile.k + k);
    }
    return static_cast<float>(sum + bias_of(tile, n));
  });
}

// The scale stands behind the sum over k (docs/numerics.md).
void int8_weight_only_linear(const LinearTile& tile) noexcept {
  const auto* w = reinterpret_cast<const int8_t*>(tile.w);
  for_each_output(tile, [&](int64_t m, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < tile.k; ++k) {
      sum += static_cast<double>(load_float(tile.x, tile.x_type, m * tile.x_stride + k)) *
             w[n * tile.k + k];
    }
    return static_cast<float>(sum * tile.w_scale[n] + bias_of(tile, n));
  });
}

void int8_rows_linear(const LinearTile& tile) noexcept {
  const auto* w = reinterpret_cast<const int8_t*>(tile.w);
  for_each_output(tile, [&](int64_t m, int64_t n) {
    return int8_dot(tile, m, n, [&](int64_t row, int64_t k) { return w[row * tile.k + k]; });
  });
}

void int8_vnni_linear(const LinearTile& tile) noexcept {
  const auto* w = reinterpret_cast<const uint8_t*>(tile.w);
  for_each_output(tile, [&](int64_t m, int64_t n) {
    return int8_dot(tile, m, n, [&](int64_t row, int64_t k) {
      return w[vnni_offset(row, k, tile.k)] - kVnniOffset;
    });
  });
}

}  // namespace mezzotint::reference
