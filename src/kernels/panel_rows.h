// Rows over kNibblePanels: codes of x times weights of four bits that stay so in memory.
//
// A tile walks k in chunks. For a chunk it first turns its rows of x into the operands of the dot
// product (once for all columns of the tile), then, panel by panel, expands 32 outputs of w into
// scratch (once for all rows of the tile) and multiplies; the sums of the chunks meet in scratch.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace mezzotint {

// Rows of x per expanded panel: 10 groups of 12. Columns per converted row of x: 32 panels where
// there are rows enough to keep every thread busy, 8 else.
constexpr int64_t kPanelTileM = 120;
constexpr int64_t kWideTileN = 1024;
constexpr int64_t kNarrowTileN = 256;

// Rows and columns of an int4 tile: 10 groups of 12.
constexpr int64_t kInt4TileM = 120;
constexpr int64_t kInt4TileN = 256;

// The four products of vpdpbusd, u4 * s8, sum up in 32 bits: 15 * 128 * k < 2^31.
constexpr int64_t kInt4PanelsMaxK = 1118481;

constexpr const char* declines_int4_panels(const LinearQuery& query) noexcept {
  return query.k <= kInt4PanelsMaxK ? nullptr : "k > 1118481 may overflow 32 bits";
}

// Groups of whole blocks of 32 k, each scaled by itself; their integer sums are far from 2^31 up to
// any k that a scale serves.
constexpr int64_t kInt4ShortestGroup = 32;

constexpr const char* declines_int4_groups(const LinearQuery& query) noexcept {
  if (query.weight.asymmetric) return "offsets are for rows of floats";
  if (query.weight.group % kInt4ShortestGroup != 0) return "takes groups of whole blocks of 32";
  return query.weight.group <= kInt4PanelsMaxK ? nullptr : "group > 1118481 may overflow 32 bits";
}

constexpr const char* declines_wide(const LinearQuery& query) noexcept {
  return query.m > kPanelTileM ? nullptr
                               : "at most 120 rows: one tile, narrow ones spread over threads";
}

namespace avx2 {
int64_t mxfp4_scratch_bytes(int64_t k);
void mxfp4_linear(const LinearTile& tile) noexcept;
int64_t int4_panels_scratch_bytes(int64_t k);
void int4_panels_linear(const LinearTile& tile) noexcept;
int64_t int4_groups_scratch_bytes(int64_t k);
void int4_groups_linear(const LinearTile& tile) noexcept;
}  // namespace avx2

namespace avx512_vnni {
int64_t mxfp4_wide_scratch_bytes(int64_t k);
int64_t mxfp4_narrow_scratch_bytes(int64_t k);
void mxfp4_linear(const LinearTile& tile) noexcept;
void int4_panels_linear(const LinearTile& tile) noexcept;
int64_t int4_groups_scratch_bytes(int64_t k);
void int4_groups_linear(const LinearTile& tile) noexcept;
}  // namespace avx512_vnni

}  // namespace mezzotint
