#include "kernels/registry.h"

#include "base/check.h"
#include "kernels/blas/rows.h"
#include "kernels/int8_rows.h"
#include "kernels/layouts.h"
#include "kernels/linear_dot.h"
#include "kernels/reference/rows.h"
#include "kernels/vector_rows.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr LayoutRow kLayouts[] = {
#define MZ_LAYOUT(id, version, name, holds, payload_bytes, pack, unpack) \
  {LayoutId::id, version, name, holds, payload_bytes, pack, unpack},
#include "kernels/layouts.inc"
#undef MZ_LAYOUT
};

#define MZ_QUANTIZE_ROWS(name, isa, run)
constexpr LinearKernel kLinearKernels[] = {
#define MZ_LINEAR(name, layout, isa, activation, m_tile, n_tile, scratch, declines, run) \
  {name,    LayoutId::layout, Isa::isa, ActivationForm::activation, m_tile, n_tile,      \
   scratch, declines,         run},
#include "kernels/kernels.inc"
#undef MZ_LINEAR
};
#undef MZ_QUANTIZE_ROWS

#define MZ_LINEAR(name, layout, isa, activation, m_tile, n_tile, scratch, declines, run)
constexpr QuantizeRowsKernel kQuantizeRowsKernels[] = {
#define MZ_QUANTIZE_ROWS(name, isa, run) {name, Isa::isa, run},
#include "kernels/kernels.inc"
#undef MZ_QUANTIZE_ROWS
};
#undef MZ_LINEAR

// Why a row does not serve a call; empty when it does.
std::string refusal(const LinearKernel& row, int64_t m, int64_t n, int64_t k, Isa isa) {
  if (row.isa > isa) {
    return "needs " + std::string(isa_name(row.isa)) + ", this run has " +
           std::string(isa_name(isa));
  }
  const char* reason = row.declines == nullptr ? nullptr : row.declines(m, n, k);
  return reason == nullptr ? std::string() : reason;
}

bool serves(const LinearKernel& row, int64_t n, int64_t k, Isa isa) {
  // Rows decline by k and by ranges of m: the ends of these ranges stand for every m.
  for (int64_t m : {int64_t{1}, int64_t{2}, int64_t{4}, int64_t{16}, int64_t{1} << 20}) {
    if (!refusal(row, m, n, k, isa).empty()) return false;
  }
  return true;
}

}  // namespace

bool is_reference(const LinearKernel& row) { return row.name.ends_with("/reference"); }

std::span<const LayoutRow> layout_rows() { return kLayouts; }
std::span<const LinearKernel> linear_kernels() { return kLinearKernels; }
std::span<const QuantizeRowsKernel> quantize_rows_kernels() { return kQuantizeRowsKernels; }

const LayoutRow& layout_row(LayoutId id) {
  for (const LayoutRow& row : kLayouts) {
    if (row.id == id) return row;
  }
  check_failed("layout_row: id is in layouts.inc", __FILE__, __LINE__);
}

const LayoutRow& choose_layout(const QuantScheme& weight, ActivationForm activation, int64_t n,
                               int64_t k, Isa isa) {
  // The reference rows serve every layout; a layout is chosen for another row, if one exists.
  const LayoutRow* fallback = nullptr;
  for (const LayoutRow& layout : kLayouts) {
    if (!layout.holds(weight, activation)) continue;
    fallback = &layout;
    for (const LinearKernel& row : kLinearKernels) {
      if (row.layout == layout.id && row.activation == activation && !is_reference(row) &&
          serves(row, n, k, isa)) {
        return layout;
      }
    }
  }
  if (fallback != nullptr) return *fallback;
  throw Error(ErrorCode::kUnsupported, "no packed layout holds this kind of weight",
              {.found = "element " + std::to_string(static_cast<int>(weight.element)) +
                        ", granularity " + std::to_string(static_cast<int>(weight.granularity))});
}

const LinearKernel& choose_linear_kernel(LayoutId layout, ActivationForm activation, int64_t m,
                                         int64_t n, int64_t k, Isa isa) {
  std::string reasons;
  for (const LinearKernel& row : kLinearKernels) {
    if (row.layout != layout || row.activation != activation) continue;
    const std::string reason = refusal(row, m, n, k, isa);
    if (reason.empty()) return row;
    reasons += (reasons.empty() ? "" : "; ") + std::string(row.name) + ": " + reason;
  }
  throw Error(
      ErrorCode::kUnsupported, "no kernel row serves this linear",
      {.expected = "a row of layout " + std::string(layout_row(layout).name),
       .found = "m " + std::to_string(m) + ", n " + std::to_string(n) + ", k " + std::to_string(k) +
                " (" + (reasons.empty() ? "no row for this form of x" : reasons) + ")"});
}

const QuantizeRowsKernel& choose_quantize_rows_kernel(Isa isa) {
  for (const QuantizeRowsKernel& row : kQuantizeRowsKernels) {
    if (row.isa <= isa) return row;
  }
  check_failed("quantize_rows: the reference row is portable", __FILE__, __LINE__);
}

}  // namespace mezzotint
