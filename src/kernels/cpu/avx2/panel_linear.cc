#include "kernels/cpu/avx2/vec16.h"
#define MZ_ISA avx2
#include "kernels/float_panel_rows.h"

namespace mezzotint::avx2 {
namespace {

// 12 accumulators (a Vec is two registers), 2 of weights, 1 of x, of 16.
constexpr int kTileRows = 6;
constexpr int kTileVectors = 1;

}  // namespace
}  // namespace mezzotint::avx2

#include "kernels/cpu/avx2/panel_blocks.inl"
#include "kernels/panel_stream.inl"
