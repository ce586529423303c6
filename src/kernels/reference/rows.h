// The obvious implementation of every op, in numerics only: what fast rows are held against and
// what runs where no other row accepts. Accumulation is exact for codes and in double for floats.
#pragma once

#include "kernels/ops.h"

namespace mezzotint::reference {

void float_linear(const LinearTile& tile) noexcept;          // kFloatRows, float x
void codes_linear(const LinearTile& tile) noexcept;          // row-major codes, every form of x
void int8_vnni_linear(const LinearTile& tile) noexcept;      // kInt8Vnni, codes of x
void nibble_panels_linear(const LinearTile& tile) noexcept;  // kNibblePanels, codes of x
void byte_panels_linear(const LinearTile& tile) noexcept;    // kBytePanels, every form of x
void word_panels_linear(const LinearTile& tile) noexcept;    // kWordPanels, float x
void bf16_panels_linear(const LinearTile& tile) noexcept;    // kBf16Panels, float x
void quantize_rows(const QuantizeRowsTile& tile) noexcept;
void quantize_mx(const QuantizeMxTile& tile) noexcept;

extern const AttentionOps kAttentionOps;

}  // namespace mezzotint::reference
