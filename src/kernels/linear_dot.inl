// Linears of few rows for one ISA: a dot product per output, weights read once and widened in
// registers. sgemm would first write the widened weights to memory, which is all the time there is
// when every weight is used four times or less. Included after that ISA's vec16.h, with MZ_ISA
// naming its namespace.

#include <cstdint>

#include "kernels/linear_dot.h"
#include "kernels/ops.h"
#include "kernels/vec16_blocks.inl"
#include "numerics/float_type.h"

namespace mezzotint::MZ_ISA {
namespace {

constexpr int64_t whole_blocks(int64_t k) { return (k + kLanes - 1) / kLanes * kLanes; }

// int8 codes read like a float type.
struct Int8Tag {};

[[gnu::always_inline]] inline Vec load_as(Int8Tag, WholeBlock, const void* w, int64_t i) {
  return load_int8(static_cast<const int8_t*>(w) + i);
}
inline Vec load_as(Int8Tag, PartOfBlock part, const void* w, int64_t i) {
  int8_t block[kLanes] = {};
  __builtin_memcpy(block, static_cast<const int8_t*>(w) + i, static_cast<size_t>(part.count));
  return load_int8(block);
}

constexpr int kMaxRows = static_cast<int>(kDotMaxRows);
constexpr int kMaxColumns = 4;

// Enough columns at a time for 8 independent sums where there are few rows.
constexpr int columns_for(int rows) { return rows <= 2 ? kMaxColumns : 2; }

struct DotArgs {
  const float* x;  // [rows][whole_blocks(k)], zeros behind k
  const void* w[kMaxColumns];
  int64_t k;
};

template <int kRows, int kColumns, typename Tag>
void dot_block(Tag tag, const DotArgs& args, float (&sums)[kMaxRows][kMaxColumns]) {
  Vec acc[kRows][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) acc[r][c] = splat(0.0f);
  }
  const int64_t stride = whole_blocks(args.k);
  for_each_block(args.k, [&](int64_t i, auto part) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      const Vec w = load_as(tag, part, args.w[c], i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) acc[r][c] = acc[r][c] + load(args.x + r * stride + i) * w;
    }
  });
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sums[r][c] = sum_lanes(acc[r][c]);
  }
}

void widen_x(const LinearTile& tile, float* x) {
  const int64_t stride = whole_blocks(tile.k);
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    float* row = x + (m - tile.m_begin) * stride;
    with_float_type(tile.x_type, [&](auto type) {
      for_each_block(tile.k, [&](int64_t i, auto part) {
        store(row + i, load_as(type, part, tile.x, m * tile.x_stride + i));
      });
    });
  }
}

template <int kRows, typename Tag>
void dot_rows(Tag tag, const LinearTile& tile, int64_t w_bytes) {
  constexpr int kColumns = columns_for(kRows);
  DotArgs args{reinterpret_cast<const float*>(tile.scratch), {}, tile.k};
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kColumns) {
    for (int64_t c = 0; c < kColumns; ++c) {
      const int64_t column = n + c < tile.n_end ? n + c : tile.n_end - 1;  // a repeat is dropped
      args.w[c] = tile.w + column * tile.k * w_bytes;
    }
    float sums[kMaxRows][kMaxColumns];
    dot_block<kRows, kColumns>(tag, args, sums);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kColumns && n + c < tile.n_end; ++c) {
        float y = sums[r][c];
        if (tile.w_scale != nullptr) y = y * tile.w_scale[n + c];
        if (tile.bias != nullptr) y = y + tile.bias[n + c];
        if (tile.addend != nullptr) {
          y = y + tile.addend[(tile.m_begin + r) * tile.addend_stride + n + c];
        }
        store_float(y, tile.y, tile.y_type, (tile.m_begin + r) * tile.y_stride + n + c);
      }
    }
  }
}

template <typename Tag>
void dot_linear_of(Tag tag, const LinearTile& tile, int64_t w_bytes) {
  switch (tile.m_end - tile.m_begin) {
    case 1:
      return dot_rows<1>(tag, tile, w_bytes);
    case 2:
      return dot_rows<2>(tag, tile, w_bytes);
    case 3:
      return dot_rows<3>(tag, tile, w_bytes);
    default:
      return dot_rows<4>(tag, tile, w_bytes);
  }
}

}  // namespace

void dot_linear(const LinearTile& tile) noexcept {
  static_assert(kMaxRows == 4);
  widen_x(tile, reinterpret_cast<float*>(tile.scratch));
  if (tile.w_element == Element::kInt8) {
    dot_linear_of(Int8Tag{}, tile, 1);
  } else if (tile.w_element == Element::kBF16) {
    dot_linear_of(FloatTypeTag<FloatType::kBF16>{}, tile, 2);
  } else if (tile.w_element == Element::kF16) {
    dot_linear_of(FloatTypeTag<FloatType::kF16>{}, tile, 2);
  } else {
    dot_linear_of(FloatTypeTag<FloatType::kF32>{}, tile, 4);
  }
}

}  // namespace mezzotint::MZ_ISA
