// FP8 attention over sgemm: codes are exact as floats, so both products sum what e4m3 matrix units
// would sum; scales stand behind the sums.
#include <algorithm>

#include "kernels/attention_tiles.h"
#include "kernels/blas/rows.h"
#include "kernels/float_ops.h"

namespace mezzotint::blas {
namespace {

using attention::RightOperand;

static_assert(kFp8KeyBlock == attention::kKeyTile && kFp8QueryBlock == attention::kQueryTile);

void run_tile(const Fp8AttentionTile& tile, const FloatOps& ops) {
  auto* const scores = reinterpret_cast<float*>(tile.scratch);
  float* const q = scores + kFp8QueryBlock * kFp8KeyBlock;
  float* const kv = q + kFp8QueryBlock * tile.dim;
  float* const row_state = kv + kFp8KeyBlock * tile.dim;
  const attention::SoftmaxTile softmax = {tile.out, row_state, row_state + kFp8QueryBlock,
                                          tile.q_rows, tile.dim};
  attention::start_softmax(softmax);
  ops.widen_e4m3(tile.q, q, tile.q_rows * tile.dim);
  for (int64_t first = 0; first < tile.keys; first += kFp8KeyBlock) {
    const int64_t keys = std::min(kFp8KeyBlock, tile.keys - first);
    const int64_t block = first / kFp8KeyBlock;
    ops.widen_e4m3(tile.k + first * tile.dim, kv, keys * tile.dim);
    attention::sgemm({tile.q_rows, keys, tile.dim},
                     tile.scale * (tile.q_scale * tile.k_scale[block]), {q, tile.dim},
                     RightOperand::kTransposed, {kv, tile.dim}, 0.0f, scores, kFp8KeyBlock);
    attention::softmax_scores(softmax, ops, scores, keys);
    for (int64_t i = 0; i < tile.q_rows; ++i) {
      ops.round_e4m3(tile.p_scale, scores + i * kFp8KeyBlock, keys);
    }
    ops.widen_e4m3(tile.v + first * tile.dim, kv, keys * tile.dim);
    attention::sgemm({tile.q_rows, tile.dim, keys}, tile.v_scale[block], {scores, kFp8KeyBlock},
                     RightOperand::kAsIs, {kv, tile.dim}, 1.0f, tile.out, tile.dim);
  }
  attention::finish_softmax(softmax, ops, tile.p_scale);
}

}  // namespace

int64_t fp8_attention_scratch_bytes(int64_t dim) {
  const int64_t floats = kFp8QueryBlock * (kFp8KeyBlock + dim + 2) + kFp8KeyBlock * dim;
  return floats * static_cast<int64_t>(sizeof(float));
}

template <Isa isa>
void fp8_attention(const Fp8AttentionTile& tile) noexcept {
  run_tile(tile, float_ops(isa));
}

template void fp8_attention<Isa::kPortable>(const Fp8AttentionTile&) noexcept;
template void fp8_attention<Isa::kAvx2>(const Fp8AttentionTile&) noexcept;
template void fp8_attention<Isa::kAvx512>(const Fp8AttentionTile&) noexcept;

}  // namespace mezzotint::blas
