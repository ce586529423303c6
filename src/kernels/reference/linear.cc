#include "kernels/int8_vnni_layout.h"
#include "kernels/nibble_panels_layout.h"
#include "kernels/panel_layout.h"
#include "kernels/reference/rows.h"
#include "kernels/weight_decode.h"
#include "numerics/dual_level.h"
#include "numerics/float_type.h"
#include "numerics/int8.h"
#include "numerics/mx.h"
#include "numerics/nibbles.h"
#include "numerics/upstream.h"

namespace mezzotint::reference {
namespace {

FloatType float_type(Element element) {
  if (element == Element::kBF16) return FloatType::kBF16;
  return element == Element::kF16 ? FloatType::kF16 : FloatType::kF32;
}

bool is_upstream(const LinearTile& tile) { return tile.compat == Compat::kUpstream; }

// Codes of x by integers, not MX blocks.
bool has_integer_x(const LinearTile& tile) {
  return tile.xq != nullptr && tile.x_block_scale == nullptr;
}

// Upstream holds the bias of a per-token layer in the model's dtype, all others in f32.
float bias_of(const LinearTile& tile, int64_t n) {
  if (tile.bias == nullptr) return 0.0f;
  return is_upstream(tile) && has_integer_x(tile) ? round_to(tile.bias[n], tile.y_type)
                                                  : tile.bias[n];
}

// What the integer sum of a row of w is multiplied by.
float channel_scale(const LinearTile& tile, int64_t n) {
  if (!is_upstream(tile)) return tile.w_scale[n];
  return tile.acc_bias == nullptr ? round_to(tile.w_scale[n], tile.y_type)
                                  : upstream_deq_scale(tile.w_scale[n], tile.y_type);
}

// y[m,n] = value(m, n) + addend[m,n] over the tile.
template <typename Value>
void for_each_output(const LinearTile& tile, const Value& value) {
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    for (int64_t n = tile.n_begin; n < tile.n_end; ++n) {
      float y = value(m, n);
      if (tile.addend != nullptr) y += tile.addend[m * tile.addend_stride + n];
      store_float(y, tile.y, tile.y_type, m * tile.y_stride + n);
    }
  }
}

// Codes times codes, exact; code(n, k) is the signed weight code.
template <typename Code>
float integer_dot(const LinearTile& tile, int64_t m, int64_t n, const Code& code) {
  int64_t acc = tile.acc_bias == nullptr ? 0 : tile.acc_bias[n];
  for (int64_t k = 0; k < tile.k; ++k) {
    acc += static_cast<int64_t>(tile.xq[m * tile.xq_stride + k]) * code(n, k);
  }
  return int8_output(acc, channel_scale(tile, n), tile.x_scale[m], bias_of(tile, n));
}

// A code of w, by layout: an integer, or the bits of an MX element.
int row_code(const LinearTile& tile, int64_t n, int64_t k) {
  return code_at(tile.w, tile.w_element, code_row_bytes(tile.w_element, tile.k), n, k);
}

int panel_code(const LinearTile& tile, int64_t n, int64_t k) {
  const auto pair = std::to_integer<uint8_t>(tile.w[nibble_offset(n, k, tile.k)]);
  const uint8_t code = is_high_nibble(n) ? high_nibble(pair) : low_nibble(pair);
  return tile.w_element == Element::kInt4 ? int4_from_nibble(code) : code;
}

int byte_panel_code(const LinearTile& tile, int64_t n, int64_t k) {
  const auto byte = std::to_integer<uint8_t>(tile.w[byte_panel_offset(n, k, tile.k)]);
  return tile.w_element == Element::kInt8 ? static_cast<int8_t>(byte) : static_cast<int>(byte);
}

int word_panel_code(const LinearTile& tile, int64_t n, int64_t k) {
  const auto* words = reinterpret_cast<const uint32_t*>(tile.w);
  return int4_from_nibble(words[word_panel_offset(n, k, tile.k)] >> word_panel_shift(k));
}

// What code (n, k) of w stands for, in double.
double weight_value(const LinearTile& tile, int64_t n, int64_t k, int code) {
  if (tile.w_block_scale != nullptr) {
    const uint8_t power = tile.w_block_scale[n * mx_blocks(tile.k) + k / kMxBlock];
    const double value = mx_value(static_cast<uint8_t>(code), power, tile.w_element);
    return tile.w_dual_scale == nullptr
               ? value
               : value * tile.w_dual_scale[n * dual_blocks(tile.k) + k / kDualBlock];
  }
  const int64_t group = tile.w_group == 0 ? tile.k : tile.w_group;
  const int64_t i = n * (tile.k / group) + k / group;
  if (is_upstream(tile) && tile.xq == nullptr) {
    return upstream_weight(code, tile.w_scale[i], tile.x_type);
  }
  const double offset = tile.w_offset == nullptr ? 0.0 : tile.w_offset[i];
  return (code - offset) * tile.w_scale[i];
}

double x_value(const LinearTile& tile, int64_t m, int64_t k) {
  if (tile.x_block_scale != nullptr) {
    const auto code = static_cast<uint8_t>(tile.xq[m * tile.xq_stride + k]);
    const uint8_t power = tile.x_block_scale[m * mx_blocks(tile.k) + k / kMxBlock];
    const double value = mx_value(code, power, tile.x_element);
    return tile.x_dual_scale == nullptr
               ? value
               : value * tile.x_dual_scale[m * dual_blocks(tile.k) + k / kDualBlock];
  }
  if (tile.xq != nullptr) {
    return static_cast<double>(tile.x_scale[m]) * tile.xq[m * tile.xq_stride + k];
  }
  return load_float(tile.x, tile.x_type, m * tile.x_stride + k);
}

// Values times values in double; integers times integers stay integers where one scale per row
// allows it. code(tile, n, k) is the code of a weight.
template <typename Code>
void linear_of_codes(const LinearTile& tile, const Code& code) {
  if (has_integer_x(tile) && is_plain_channel(tile)) {
    for_each_output(tile, [&](int64_t m, int64_t n) {
      return integer_dot(tile, m, n, [&](int64_t row, int64_t k) { return code(tile, row, k); });
    });
    return;
  }
  for_each_output(tile, [&](int64_t m, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < tile.k; ++k) {
      sum += x_value(tile, m, k) * weight_value(tile, n, k, code(tile, n, k));
    }
    return static_cast<float>(sum + bias_of(tile, n));
  });
}

// The same with float weights, weight(n, k).
template <typename Weight>
void linear_of_floats(const LinearTile& tile, const Weight& weight) {
  for_each_output(tile, [&](int64_t m, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < tile.k; ++k) {
      sum += static_cast<double>(load_float(tile.x, tile.x_type, m * tile.x_stride + k)) *
             weight(n, k);
    }
    return static_cast<float>(sum + bias_of(tile, n));
  });
}

}  // namespace

void float_linear(const LinearTile& tile) noexcept {
  const FloatType w_type = float_type(tile.w_element);
  linear_of_floats(
      tile, [&](int64_t n, int64_t k) { return load_float(tile.w, w_type, n * tile.k + k); });
}

void bf16_panels_linear(const LinearTile& tile) noexcept {
  linear_of_floats(tile, [&](int64_t n, int64_t k) {
    return load_float(tile.w, FloatType::kBF16, bf16_panel_offset(n, k, tile.k));
  });
}

void codes_linear(const LinearTile& tile) noexcept { linear_of_codes(tile, row_code); }

void nibble_panels_linear(const LinearTile& tile) noexcept { linear_of_codes(tile, panel_code); }

void byte_panels_linear(const LinearTile& tile) noexcept { linear_of_codes(tile, byte_panel_code); }

void word_panels_linear(const LinearTile& tile) noexcept { linear_of_codes(tile, word_panel_code); }

void int8_vnni_linear(const LinearTile& tile) noexcept {
  const auto* w = reinterpret_cast<const uint8_t*>(tile.w);
  for_each_output(tile, [&](int64_t m, int64_t n) {
    return integer_dot(tile, m, n, [&](int64_t row, int64_t k) {
      return w[vnni_offset(row, k, tile.k)] - kVnniOffset;
    });
  });
}

}  // namespace mezzotint::reference
