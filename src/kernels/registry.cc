#include "kernels/registry.h"

#include "base/check.h"
#include "kernels/blas/rows.h"
#include "kernels/float_panel_rows.h"
#include "kernels/int8_rows.h"
#include "kernels/layouts.h"
#include "kernels/linear_dot.h"
#include "kernels/panel_rows.h"
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

constexpr LinearKernel kLinearKernels[] = {
#define MZ_LINEAR(name, layout, isa, form, weights, m_tile, n_tile, scratch, declines, run)        \
  {name,    LayoutId::layout, Isa::isa, ActivationForm::form, WeightForm::weights, m_tile, n_tile, \
   scratch, declines,         run},
#include "kernels/kernels.inc"
};

constexpr QuantizeRowsKernel kQuantizeRowsKernels[] = {
#define MZ_QUANTIZE_ROWS(name, isa, run) {name, Isa::isa, run},
#include "kernels/kernels.inc"
};

constexpr QuantizeMxKernel kQuantizeMxKernels[] = {
#define MZ_QUANTIZE_MX(name, isa, run) {name, Isa::isa, run},
#include "kernels/kernels.inc"
};

bool is_channel_form(const QuantScheme& weight) {
  return !weight.asymmetric && (weight.granularity == Granularity::kNone ||
                                weight.granularity == Granularity::kPerChannel);
}

// Why a row does not serve a call; empty when it does.
std::string refusal(const LinearKernel& row, const LinearQuery& query, Isa isa) {
  if (row.isa > isa) {
    return "needs " + std::string(isa_name(row.isa)) + ", this run has " +
           std::string(isa_name(isa));
  }
  if (row.weights == WeightForm::kChannel && !is_channel_form(query.weight)) {
    return "takes one scale per output channel, no groups and no offsets";
  }
  if (row.weights == WeightForm::kGrouped && is_channel_form(query.weight)) {
    return "takes groups and offsets only";
  }
  const char* reason = row.declines == nullptr ? nullptr : row.declines(query);
  return reason == nullptr ? std::string() : reason;
}

bool serves(const LinearKernel& row, const QuantScheme& weight, int64_t n, int64_t k, Isa isa) {
  // Rows decline by k, by ranges of m and by the type of x: the ends of these ranges stand for
  // every m.
  for (FloatType x_type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
    for (int64_t m : {int64_t{1}, int64_t{2}, int64_t{4}, int64_t{16}, int64_t{1} << 20}) {
      if (!refusal(row, {m, n, k, x_type, weight}, isa).empty()) return false;
    }
  }
  return true;
}

}  // namespace

bool is_reference(const LinearKernel& row) { return row.name.ends_with("/reference"); }

std::span<const LayoutRow> layout_rows() { return kLayouts; }
std::span<const LinearKernel> linear_kernels() { return kLinearKernels; }
std::span<const QuantizeRowsKernel> quantize_rows_kernels() { return kQuantizeRowsKernels; }
std::span<const QuantizeMxKernel> quantize_mx_kernels() { return kQuantizeMxKernels; }

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
          serves(row, weight, n, k, isa)) {
        return layout;
      }
    }
  }
  if (fallback != nullptr) return *fallback;
  throw Error(ErrorCode::kUnsupported, "no packed layout holds this kind of weight",
              {.found = "element " + std::to_string(static_cast<int>(weight.element)) +
                        ", granularity " + std::to_string(static_cast<int>(weight.granularity))});
}

const LinearKernel& choose_linear_kernel(LayoutId layout, ActivationForm activation,
                                         const LinearQuery& query, Isa isa) {
  std::string reasons;
  for (const LinearKernel& row : kLinearKernels) {
    if (row.layout != layout || row.activation != activation) continue;
    const std::string reason = refusal(row, query, isa);
    if (reason.empty()) return row;
    reasons += (reasons.empty() ? "" : "; ") + std::string(row.name) + ": " + reason;
  }
  throw Error(ErrorCode::kUnsupported, "no kernel row serves this linear",
              {.expected = "a row of layout " + std::string(layout_row(layout).name),
               .found = "m " + std::to_string(query.m) + ", n " + std::to_string(query.n) + ", k " +
                        std::to_string(query.k) + " (" +
                        (reasons.empty() ? "no row for this form of x" : reasons) + ")"});
}

const LinearKernel& reference_linear_kernel(LayoutId layout, ActivationForm activation) {
  for (const LinearKernel& row : kLinearKernels) {
    if (row.layout == layout && row.activation == activation && is_reference(row)) return row;
  }
  check_failed("reference_linear_kernel: every layout has one", __FILE__, __LINE__);
}

const QuantizeRowsKernel& choose_quantize_rows_kernel(Isa isa) {
  for (const QuantizeRowsKernel& row : kQuantizeRowsKernels) {
    if (row.isa <= isa) return row;
  }
  check_failed("quantize_rows: the reference row is portable", __FILE__, __LINE__);
}

const QuantizeMxKernel& choose_quantize_mx_kernel(Isa isa) {
  for (const QuantizeMxKernel& row : kQuantizeMxKernels) {
    if (row.isa <= isa) return row;
  }
  check_failed("quantize_mx: the reference row is portable", __FILE__, __LINE__);
}

}  // namespace mezzotint
