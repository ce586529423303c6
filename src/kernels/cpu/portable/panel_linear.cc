#include "kernels/cpu/portable/vec16.h"
#define MZ_ISA portable
#include "kernels/float_panel_rows.h"

namespace mezzotint::portable {
namespace {

// 8 accumulators (a Vec is four registers), 4 of weights, 1 of x, of 16.
constexpr int kTileRows = 2;
constexpr int kTileVectors = 1;

}  // namespace
}  // namespace mezzotint::portable

#include "kernels/panel_float.inl"
#include "kernels/panel_float_rows.inl"
#include "kernels/panel_stream.inl"
