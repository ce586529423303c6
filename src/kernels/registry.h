// The tables of packed layouts and kernel rows, and how a row is chosen.
//
// layouts.inc and kernels.inc are the only places where a layout or a kernel is named; dispatch,
// tests, benchmarks and `mezzotint list-kernels` read them. Rows stand best first, the reference
// row last.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/ops.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// --- packed layouts ------------------------------------------------------------------------------

enum class LayoutId : uint32_t {
  kFloatRows = 1,     // w as in the file, [n][k]
  kInt8Rows = 2,      // int8 codes [n][k]
  kInt8Vnni = 3,      // u8 = code + 128 in panels [n/32][k/4][32][4]
  kNibbleRows = 4,    // int4 or e2m1 codes [n][(k+1)/2], low nibble = even k
  kE4M3Rows = 5,      // e4m3 codes [n][k]
  kNibblePanels = 6,  // int4 or e2m1 codes in panels of 32 outputs (nibble_panels_layout.h)
  // Panels of 32 outputs (panel_layout.h).
  kBytePanels = 20,  // int8 or e4m3 codes [n/32][k][32]
  kWordPanels = 21,  // int4 codes [n/32][k/8][32] of 8 k each
  kBf16Panels = 22,  // [n/32][k/2][32][2]
};

// Row-major [n,k] floats as they stand in a file, or codes: code_row_bytes() per row.
struct WeightCodes {
  Element element = Element::kF32;
  int64_t n = 0;
  int64_t k = 0;
  const std::byte* data = nullptr;
};

struct LayoutRow {
  LayoutId id;
  uint32_t version;
  std::string_view name;
  bool (*holds)(const QuantScheme& weight, ActivationForm activation);
  int64_t (*payload_bytes)(int64_t n, int64_t k, Element element);  // 0: not for this element
  // pack and unpack are inverse to each other on the file's bytes.
  void (*pack)(const WeightCodes& codes, std::byte* payload);
  void (*unpack)(const std::byte* payload, const WeightCodes& shape, std::byte* codes);
};

std::span<const LayoutRow> layout_rows();
const LayoutRow& layout_row(LayoutId id);

// A packed weight is ONE buffer: this header, then the payload.
struct PackedHeader {
  char magic[8];  // "MZPACKED"
  uint32_t layout;
  uint32_t version;
  uint32_t element;
  uint32_t reserved;
  int64_t n, k, group;
  int64_t payload_bytes;
  int64_t unused;
};
static_assert(sizeof(PackedHeader) == 64);

Buffer pack_weight(const LayoutRow& layout, const WeightCodes& codes, int64_t group);
// Checks magic, layout, version, sizes; throws Error(kInput). The blob may be borrowed or mapped.
const PackedHeader& packed_header(const Buffer& blob);
const std::byte* packed_payload(const Buffer& blob);
Tensor unpack_weight(const Buffer& blob);  // the file's tensor back, byte for byte

// --- kernel rows ---------------------------------------------------------------------------------

// Which weights of its layout a row serves.
enum class WeightForm : uint8_t {
  kChannel,  // one scale per row and no offset, or no scale at all
  kGrouped,  // groups or offsets, and nothing else: float sums, where kChannel rows are exact
  kEvery,
};

struct LinearKernel {
  std::string_view name;  // "int8_vnni/avx512_vnni"
  LayoutId layout;
  Isa isa;
  ActivationForm activation;
  WeightForm weights;
  int64_t m_tile, n_tile;               // how a call is split
  int64_t (*scratch_bytes)(int64_t k);  // per tile; may be null
  // The reason, or null: accepts. May be null itself: accepts everything.
  const char* (*declines)(const LinearQuery& query) noexcept;
  LinearFn run;
};

struct QuantizeRowsKernel {
  std::string_view name;
  Isa isa;
  QuantizeRowsFn run;
};

struct QuantizeMxKernel {
  std::string_view name;
  Isa isa;
  QuantizeMxFn run;
};

bool is_reference(const LinearKernel& row);  // serves every shape, slowly

std::span<const LinearKernel> linear_kernels();
std::span<const QuantizeRowsKernel> quantize_rows_kernels();
std::span<const QuantizeMxKernel> quantize_mx_kernels();

// The first layout (best first) that holds the weight and has a row for every m and type of x at
// this ISA.
const LayoutRow& choose_layout(const QuantScheme& weight, ActivationForm activation, int64_t n,
                               int64_t k, Isa isa);
// The first row of a layout that accepts the query; throws Error(kUnsupported) with every reason.
const LinearKernel& choose_linear_kernel(LayoutId layout, ActivationForm activation,
                                         const LinearQuery& query, Isa isa);
// The rows that know upstream's roundings (LinearTile::compat). The quantizers' stand last.
const LinearKernel& reference_linear_kernel(LayoutId layout, ActivationForm activation);
const QuantizeRowsKernel& choose_quantize_rows_kernel(Isa isa);
const QuantizeMxKernel& choose_quantize_mx_kernel(Isa isa);

}  // namespace mezzotint
