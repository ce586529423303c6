// The rows of panel_float.inl that expand a panel for many rows of x, by its tiles. Included after
// it.

namespace mezzotint::MZ_ISA {

void int8_panels_linear(const LinearTile& tile) noexcept {
  run_panel_tile<FloatMath<Int8Weights>>(tile);
}
void e4m3_panels_linear(const LinearTile& tile) noexcept {
  run_panel_tile<FloatMath<E4M3Weights>>(tile);
}
void int4_words_linear(const LinearTile& tile) noexcept {
  run_panel_tile<FloatMath<Int4Weights>>(tile);
}
void bf16_panels_linear(const LinearTile& tile) noexcept {
  run_panel_tile<FloatMath<Bf16Weights>>(tile);
}

}  // namespace mezzotint::MZ_ISA
