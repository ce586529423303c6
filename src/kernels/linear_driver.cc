#include "kernels/linear_driver.h"

#include <algorithm>

#include "base/check.h"
#include "base/parallel_for.h"
#include "base/workspace.h"

namespace mezzotint {
namespace {

// Rows of x that one task quantizes: long enough to pay for a task, short enough for 16 rows to
// spread over two threads.
constexpr int64_t kQuantizeRowsGrain = 8;

// Up to here the sums of the quantizer's lanes are integers that floats hold: 127 k / 16 < 2^24.
constexpr int64_t kQuantizeMaxK = int64_t{1} << 21;

int64_t tiles_of(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

}  // namespace

void run_linear(const LinearKernel& kernel, const LinearTile& call, const ExecContext& ctx) {
  if (call.m == 0 || call.n == 0) return;
  MZ_CHECK(call.k > 0);
  MZ_CHECK(call.addend == nullptr || kernel.activation == ActivationForm::kFloat);
  const int64_t m_tiles = tiles_of(call.m, kernel.m_tile);
  const int64_t n_tiles = tiles_of(call.n, kernel.n_tile);
  const int64_t scratch_bytes = kernel.scratch_bytes == nullptr ? 0 : kernel.scratch_bytes(call.k);
  // n runs fastest: the rows of x of one m tile stay in the second-level cache while the weights
  // stream by. Rows are cut evenly: 256 as 128 + 128, not 224 + 32, which two threads cannot share.
  parallel_for(ctx, m_tiles * n_tiles, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch = ctx.workspace().take(scratch_bytes);
    for (int64_t i = begin; i < end; ++i) {
      LinearTile tile = call;
      tile.m_begin = call.m * (i / n_tiles) / m_tiles;
      tile.m_end = call.m * (i / n_tiles + 1) / m_tiles;
      tile.n_begin = i % n_tiles * kernel.n_tile;
      tile.n_end = std::min(tile.n_begin + kernel.n_tile, call.n);
      tile.scratch = scratch.as<std::byte>();
      kernel.run(tile);
    }
  });
}

void run_quantize_rows(const QuantizeRowsKernel& kernel, const QuantizeRowsTile& call, int64_t m,
                       const ExecContext& ctx) {
  MZ_CHECK(call.k <= kQuantizeMaxK);
  MZ_CHECK(call.q_stride >= padded_k(call.k));
  parallel_for(ctx, m, kQuantizeRowsGrain, [&](int64_t begin, int64_t end) {
    QuantizeRowsTile tile = call;
    tile.m_begin = begin;
    tile.m_end = end;
    kernel.run(tile);
  });
}

void run_quantize_mx(const QuantizeMxKernel& kernel, const QuantizeMxTile& call, int64_t m,
                     const ExecContext& ctx) {
  parallel_for(ctx, m, kQuantizeRowsGrain, [&](int64_t begin, int64_t end) {
    QuantizeMxTile tile = call;
    tile.m_begin = begin;
    tile.m_end = end;
    kernel.run(tile);
  });
}

}  // namespace mezzotint
