#include "kernels/cpu/avx512/vec16.h"
#define MZ_ISA avx512
#include "kernels/float_panel_rows.h"

namespace mezzotint::avx512 {
namespace {

// 28 accumulators, 2 registers of weights, 1 of x, of 32.
constexpr int kTileRows = 14;
constexpr int kTileVectors = 2;

}  // namespace
}  // namespace mezzotint::avx512

#include "kernels/panel_float.inl"
#include "kernels/panel_float_rows.inl"
#include "kernels/panel_stream.inl"
