// How flash_attention.inl packs q, k and v. Included by it only.

namespace mezzotint::MZ_ISA {
namespace {

// Elements [begin, begin + count) of a row as the operands of a product; count <= 16.
template <FloatType T>
[[gnu::always_inline]] inline Vec operands(FloatTypeTag<T> type, const AttentionPack& pack,
                                           int64_t row, int64_t begin, int64_t count) {
  if (count <= 0) return splat(0.0f);
  const int64_t i = row * pack.x_stride + begin;
  const Vec x = count == kLanes ? load_as(type, WholeBlock{}, pack.x, i)
                                : load_as(type, PartOfBlock{count}, pack.x, i);
  if (pack.form == AttentionForm::kFloat) return x;
  return pack.scale > 0.0f ? round_e4m3(x / splat(pack.scale)) : splat(0.0f);
}

// A row of q or k as steps_of(dim) words.
template <FloatType T>
[[gnu::always_inline]] inline void row_words(FloatTypeTag<T> type, const AttentionPack& pack,
                                             int64_t row, float* words) {
  for (int64_t first = 0; first < pack.dim; first += kGroup, words += kLanes) {
    Vec v[kPerStep];
    for (int p = 0; p < kPerStep; ++p) {
      const int64_t begin = first + p * kLanes, rest = pack.dim - begin;
      v[p] = operands(type, pack, row, begin, rest < kLanes ? rest : kLanes);
    }
    const int64_t count = steps_of(pack.dim - first);
    if (count >= kLanes) {
      store(words, words_of_run(v));
    } else {
      store_lanes(PartOfBlock{count}, words, words_of_run(v));
    }
  }
}

// [rows][steps], rows up to a whole strip zero.
void pack_queries(const AttentionPack& pack) noexcept {
  auto* const packed = reinterpret_cast<float*>(pack.packed);
  const int64_t steps = steps_of(pack.dim);
  with_float_type(pack.x_type, [&](auto type) {
    for (int64_t i = 0; i < pack.rows; ++i) row_words(type, pack, i, packed + i * steps);
  });
  const int64_t rows = rounded_up(pack.rows, kStripRows);
  for (int64_t i = pack.rows * steps; i < rows * steps; ++i) packed[i] = 0.0f;
}

// [keys / kPanel][steps][kPanel], keys up to a whole panel zero.
void pack_keys(const AttentionPack& pack) noexcept {
  const int64_t steps = steps_of(pack.dim);
  constexpr int64_t kChunk = 1024;  // words of a row; longer heads are read by parts of their row
  alignas(64) float words[kChunk];
  with_float_type(pack.x_type, [&](auto type) {
    for (int64_t i = 0; i < rounded_up(pack.rows, kPanel); ++i) {
      float* to = reinterpret_cast<float*>(pack.packed) + i / kPanel * kPanel * steps + i % kPanel;
      for (int64_t first = 0; first < pack.dim; first += kChunk * kPerStep) {
        AttentionPack part = pack;
        part.x = static_cast<const char*>(pack.x) + first * float_size(pack.x_type);
        part.dim = pack.dim - first < kChunk * kPerStep ? pack.dim - first : kChunk * kPerStep;
        if (i < pack.rows) row_words(type, part, i, words);
        for (int64_t s = 0; s < steps_of(part.dim); ++s, to += kPanel) {
          *to = i < pack.rows ? words[s] : 0.0f;
        }
      }
    }
  });
}

// [columns / kPanel][keys / kPerStep][kPanel], the last panel of 16 columns where they are not a
// multiple. Keys up to a whole panel, and columns behind the last, are zero.
void pack_values(const AttentionPack& pack) noexcept {
  const int64_t keys = rounded_up(pack.rows, kPanel), steps = keys / kPerStep;
  with_float_type(pack.x_type, [&](auto type) {
    for (int64_t column = 0; column < columns_of(pack.dim); column += kLanes) {
      const int64_t panel = column / kPanel * kPanel;
      const int64_t rest = columns_of(pack.dim) - panel;
      const int64_t width = rest < kPanel ? rest : kPanel;
      const int64_t count = pack.dim - column < kLanes ? pack.dim - column : kLanes;
      float* const to = reinterpret_cast<float*>(pack.packed) + panel * steps + column % kPanel;
      for (int64_t s = 0; s < steps; ++s) {
        Vec v[kPerStep];
        for (int p = 0; p < kPerStep; ++p) {
          const int64_t key = s * kPerStep + p;
          v[p] = operands(type, pack, key, column, key < pack.rows ? count : 0);
        }
        store(to + s * width, words_of_lanes(v));
      }
    }
  });
}

}  // namespace
}  // namespace mezzotint::MZ_ISA
