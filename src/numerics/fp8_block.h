// e4m3 with one float scale per tile of rows and columns, x ~ element * scale. Source: NN
// quant/dynamic_block_quant/op_kernel/arch35/dynamic_block_quant_large_blocksize_kernel.h:465-580
// (docs/numerics.md).
#pragma once

#include <cstdint>

#include "numerics/e4m3.h"
#include "numerics/host_device.h"
#include "numerics/rounding.h"

namespace mezzotint {

// s = amax / 448, a true division; NaN for a tile that holds Inf or NaN.
MZ_HD float fp8_block_scale(float amax) { return is_finite(amax) ? amax / kE4M3Max : kQuietNaN; }
static_assert(fp8_block_scale(448.0f) == 1.0f && is_nan(fp8_block_scale(kQuietNaN)));

// e4m3(x / s), half to even; 0 where s is 0 or NaN.
MZ_HD uint8_t fp8_block_code(float x, float scale) {
  if (!(scale > 0.0f)) return 0;
  return e4m3_from_float(x / scale, Rounding::kHalfEven);
}
static_assert(fp8_block_code(-3.0f, fp8_block_scale(3.0f)) == 0xfe);
static_assert(fp8_block_code(1.0f, 0.0f) == 0 && fp8_block_code(1.0f, kQuietNaN) == 0);

}  // namespace mezzotint
