#include "kernels/attention_op.h"

#include <algorithm>

#include "base/check.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "kernels/attention_operands.h"
#include "kernels/attention_rows.h"
#include "kernels/float_ops.h"
#include "kernels/reference/rows.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

#define MZ_ATTENTION(name, isa, operand, ops) {name, Isa::isa, FloatType::operand, &ops},
constexpr AttentionKernel kKernels[] = {
#include "kernels/kernels.inc"
};

// Packed k and v of the heads in work at a time; with more threads than heads in them, or longer
// sequences, they are one head's.
constexpr int64_t kPackedBytes = int64_t{64} << 20;

constexpr int64_t blocks_of(int64_t rows, int64_t block) { return (rows + block - 1) / block; }

class Run {
 public:
  Run(const HeadsView& q, const HeadsView& k, const HeadsView& v, const HeadsView& out,
      const AttentionCall& call, const AttentionSetup& setup, const AttentionKernel& kernel,
      const ExecContext& ctx)
      : q_(q),
        k_(k),
        v_(v),
        out_(out),
        call_(call),
        setup_(setup),
        row_(*kernel.ops),
        ops_(float_ops(kernel.isa)),
        ctx_(ctx),
        blocks_(blocks_of(k.seq, kKeyBlock)),
        tiles_(blocks_of(q.seq, kQueryBlock)),
        group_(q.heads / k.heads),
        block_bytes_(row_.key_bytes(q.dim)) {}

  void all_heads() const {
    const int64_t heads = k_.batch * k_.heads;
    const int64_t bytes_of_head = std::max<int64_t>(2 * blocks_ * block_bytes_, 1);
    const int64_t step = std::clamp<int64_t>(kPackedBytes / bytes_of_head, 1, heads);
    const Scratch packed = ctx_.workspace().take(step * bytes_of_head);
    const Scratch scales =
        ctx_.workspace().take(step * 2 * blocks_ * static_cast<int64_t>(sizeof(float)));
    for (int64_t first = 0; first < heads; first += step) {
      const Heads work = {first, std::min(step, heads - first), packed.as<std::byte>(),
                          scales.as<float>()};
      pack_heads(work);
      run_heads(work);
    }
  }

 private:
  // Of batch * kv_heads heads, those in work: k and v of head `first` first.
  struct Heads {
    int64_t first, count;
    std::byte* packed;
    float* scales;
  };

  int64_t keys_of(int64_t batch) const {
    return call_.kv_length.empty() ? k_.seq : call_.kv_length[static_cast<size_t>(batch)];
  }

  // Only rows below the batch's length are read.
  void pack_heads(const Heads& work) const {
    parallel_for(ctx_, work.count * 2 * blocks_, 1, [&](int64_t begin, int64_t end) {
      const Scratch memory = ctx_.workspace().take(attention::rotation_bytes(kKeyBlock, q_.dim));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t head = work.first + i / blocks_ / 2, batch = head / k_.heads;
        const bool is_key = i / blocks_ % 2 == 0;
        const int64_t first = i % blocks_ * kKeyBlock;
        const int64_t rows = std::min(kKeyBlock, keys_of(batch) - first);
        if (rows <= 0) continue;
        AttentionPack pack = attention::operand_rows(
            is_key ? k_ : v_, {batch, head % k_.heads, first, rows}, setup_.form,
            is_key ? setup_.k_rot : Rotation{}, ops_, memory.as<std::byte>());
        pack.packed = work.packed + i * block_bytes_;
        work.scales[i] = pack.scale;
        (is_key ? row_.pack_keys : row_.pack_values)(pack);
      }
    });
  }

  // Scratch of one query tile.
  struct TileBytes {
    int64_t rotation, query, out, kernel;
    int64_t total() const { return rotation + query + out + kernel; }
  };
  TileBytes tile_bytes() const {
    const int64_t out = kQueryBlock * q_.dim * static_cast<int64_t>(sizeof(float));
    return {attention::rotation_bytes(kQueryBlock, q_.dim), row_.query_bytes(q_.dim), out,
            row_.scratch_bytes(q_.dim)};
  }

  void run_heads(const Heads& work) const {
    const TileBytes bytes = tile_bytes();
    parallel_for(ctx_, work.count * group_ * tiles_, 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch = ctx_.workspace().take(bytes.total());
      for (int64_t i = begin; i < end; ++i) {
        run_tile(work, i / tiles_ / group_, i / tiles_ % group_, i % tiles_, bytes,
                 scratch.as<std::byte>());
      }
    });
  }

  void run_tile(const Heads& work, int64_t kv, int64_t member, int64_t tile, const TileBytes& bytes,
                std::byte* scratch) const {
    const int64_t kv_head = (work.first + kv) % k_.heads, batch = (work.first + kv) / k_.heads;
    const int64_t first = tile * kQueryBlock, rows = std::min(kQueryBlock, q_.seq - first);
    const attention::Rows of = {batch, kv_head * group_ + member, first, rows};
    AttentionPack pack = attention::operand_rows(q_, of, setup_.form, setup_.q_rot, ops_, scratch);
    pack.packed = scratch + bytes.rotation;
    row_.pack_queries(pack);
    const std::byte* const k = work.packed + kv * 2 * blocks_ * block_bytes_;
    const float* const k_scale = work.scales + kv * 2 * blocks_;
    const AttentionTile args = {
        .form = setup_.form,
        .q = pack.packed,
        .k = k,
        .v = k + blocks_ * block_bytes_,
        .q_scale = pack.scale,
        .k_scale = k_scale,
        .v_scale = k_scale + blocks_,
        .q_rows = rows,
        .keys = keys_of(batch),
        .dim = q_.dim,
        .scale = call_.scale,
        .p_scale = setup_.form == AttentionForm::kFp8 ? setup_.p_scale : 1.0f,
        .out = reinterpret_cast<float*>(scratch + bytes.rotation + bytes.query),
        .scratch = scratch + bytes.rotation + bytes.query + bytes.out};
    row_.run(args);
    write_rows(of, args.out);
  }

  void write_rows(const attention::Rows& rows, const float* values) const {
    const FloatType type = attention::float_type(out_.dtype);
    for (int64_t i = 0; i < rows.count; ++i) {
      const int64_t to = attention::row_offset(out_, rows.batch, rows.first + i, rows.head);
      ops_.narrow(values + i * out_.dim, offset_floats(out_.data, type, to), type, out_.dim);
    }
  }

  const HeadsView &q_, &k_, &v_, &out_;
  const AttentionCall& call_;
  const AttentionSetup& setup_;
  const AttentionOps& row_;
  const FloatOps& ops_;
  const ExecContext& ctx_;
  const int64_t blocks_, tiles_, group_, block_bytes_;
};

}  // namespace

std::span<const AttentionKernel> attention_kernels() { return kKernels; }

const AttentionKernel& choose_attention_kernel(AttentionForm form, FloatType type, Isa isa) {
  for (const AttentionKernel& row : kKernels) {
    const bool exact =
        row.operand == FloatType::kF32 || form == AttentionForm::kFp8 || type == FloatType::kBF16;
    if (row.isa <= isa && exact) return row;
  }
  check_failed("attention: the reference row is portable", __FILE__, __LINE__);
}

void run_attention(const HeadsView& q, const HeadsView& k, const HeadsView& v, const HeadsView& out,
                   const AttentionCall& call, const AttentionSetup& setup,
                   const AttentionKernel& kernel, const ExecContext& ctx) {
  MZ_CHECK(k.heads > 0 && q.heads % k.heads == 0);
  MZ_CHECK(setup.form == AttentionForm::kFloat || q.dim <= kFp8MaxHeadDim);
  if (q.batch == 0 || q.seq == 0) return;
  Run(q, k, v, out, call, setup, kernel, ctx).all_heads();
}

}  // namespace mezzotint
