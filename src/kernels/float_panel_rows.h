// Rows that read the layouts of panel_layout.h: the same plan for every ISA and layout.
//
// A tile of outputs goes through k in blocks. Per block, its rows of x become floats (or bf16) in
// scratch once; per panel, the weights of the block do; then groups of rows of x meet the panel,
// and sums wait in scratch until the last block. What a tile holds stays in a second-level cache of
// 1 MiB: 240 KB of x, 32 KB of weights, 450 KB of sums.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "kernels/panel_layout.h"

namespace mezzotint {

constexpr int64_t kFloatPanelTileM =
    224;  // 16 groups of 14: weights are expanded once per 224 rows
constexpr int64_t kFloatPanelTileN = 512;  // x is converted once per 512 outputs
constexpr int64_t kFloatBlockK = 256;
constexpr int64_t kBf16BlockK = 512;
// Between rows of x in scratch: keeps 14 of them off the same sets of the first-level cache.
constexpr int64_t kPanelPadBytes = 64;

constexpr int64_t panel_tile_scratch_bytes(int64_t block_k, int64_t value_bytes) {
  constexpr int64_t kSumBytes = 4;
  return kFloatPanelTileM * (block_k * value_bytes + kPanelPadBytes) +
         block_k * kPanelColumns * value_bytes + kFloatPanelTileM * kFloatPanelTileN * kSumBytes;
}
constexpr int64_t panel_float_scratch_bytes(int64_t) {
  return panel_tile_scratch_bytes(kFloatBlockK, 4);
}
constexpr int64_t panel_bf16_scratch_bytes(int64_t) {
  return panel_tile_scratch_bytes(kBf16BlockK, 2);
}

// Few rows: weights are expanded in registers and used at once.
constexpr int64_t kPanelStreamMaxRows = 4;
constexpr int64_t kPanelStreamTileN = 128;  // 3072 outputs are 24 tasks

constexpr int64_t panel_stream_scratch_bytes(int64_t k) {
  constexpr int64_t kFloatBytes = 4;
  constexpr int64_t kLastVector = 64;  // rows are written 16 floats at a time
  return kPanelStreamMaxRows * panel_k(k) * kFloatBytes + kLastVector;
}

// By dot products of bf16 they may be 16.
constexpr int64_t kPanelStream16Rows = 16;
constexpr int64_t kPanelStream16TileN = 256;  // x is converted once per 256 outputs

// The scales of 16 runs of a panel, and x as pairs of bf16, k up to whole vectors of 32.
constexpr int64_t kStreamScaleBytes = 16 * kPanelColumns * 4;
template <int64_t kRows>
constexpr int64_t panel_bf16_stream_scratch_bytes(int64_t k) {
  constexpr int64_t kBf16Bytes = 2, kVector = 32;
  return kStreamScaleBytes + kRows * (panel_k(k) + kVector) * kBf16Bytes;
}

constexpr const char* declines_panel_stream_weights(const QuantScheme& weight) noexcept {
  if (weight.asymmetric) return "offsets are for tiles";
  return weight.group % kPanelStep == 0 ? nullptr : "takes groups of whole steps of 8";
}
constexpr const char* declines_panel_stream(const LinearQuery& query) noexcept {
  if (query.m > kPanelStreamMaxRows) return "more than 4 rows: tiles read the weights fewer times";
  return declines_panel_stream_weights(query.weight);
}
constexpr const char* declines_panel_stream16(const LinearQuery& query) noexcept {
  if (query.m > kPanelStream16Rows) return "more than 16 rows: tiles expand weights less often";
  return declines_panel_stream_weights(query.weight);
}

// bf16 dot products: groups are scaled on their sums, which must end where blocks of k do.
constexpr const char* declines_panel_bf16_groups(const QuantScheme& weight) noexcept {
  constexpr int64_t kShortest = 32;  // a sum per group costs more below
  if (weight.asymmetric) return "offsets are for float rows";
  if (weight.granularity != Granularity::kPerGroup) return nullptr;
  const bool fits = weight.group % kBf16BlockK == 0 ||
                    (weight.group % kShortest == 0 && kBf16BlockK % weight.group == 0);
  return fits ? nullptr : "takes groups of 32, 64, 128, 256 and multiples of 512";
}
constexpr const char* declines_panel_bf16(const LinearQuery& query) noexcept {
  if (query.x_type != FloatType::kBF16) return "takes bf16 x only: others would be rounded";
  return declines_panel_bf16_groups(query.weight);
}

constexpr const char* declines_panel_bf16_stream(const LinearQuery& query) noexcept {
  const char* reason = declines_panel_stream(query);
  return reason != nullptr ? reason : declines_panel_bf16(query);
}
constexpr const char* declines_panel_bf16_stream16(const LinearQuery& query) noexcept {
  const char* reason = declines_panel_stream16(query);
  return reason != nullptr ? reason : declines_panel_bf16(query);
}

#define MZ_PANEL_ROWS(isa)                                  \
  namespace isa {                                           \
  void int8_panels_linear(const LinearTile& tile) noexcept; \
  void int8_panels_stream(const LinearTile& tile) noexcept; \
  void e4m3_panels_linear(const LinearTile& tile) noexcept; \
  void e4m3_panels_stream(const LinearTile& tile) noexcept; \
  void int4_words_linear(const LinearTile& tile) noexcept;  \
  void int4_words_stream(const LinearTile& tile) noexcept;  \
  void bf16_panels_linear(const LinearTile& tile) noexcept; \
  void bf16_panels_stream(const LinearTile& tile) noexcept; \
  }
MZ_PANEL_ROWS(portable)
MZ_PANEL_ROWS(avx2)
MZ_PANEL_ROWS(avx512)
#undef MZ_PANEL_ROWS

namespace avx512_bf16 {
void int8_panels_linear(const LinearTile& tile) noexcept;
void e4m3_panels_linear(const LinearTile& tile) noexcept;
void e4m3_panels_stream(const LinearTile& tile) noexcept;
void int4_words_linear(const LinearTile& tile) noexcept;
void int4_words_stream(const LinearTile& tile) noexcept;
void bf16_panels_linear(const LinearTile& tile) noexcept;
}  // namespace avx512_bf16

}  // namespace mezzotint
