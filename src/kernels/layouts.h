// The packed layouts: bytes, pack, unpack. Only layouts.inc names these functions; kernels read a
// layout through the constants below.
#pragma once

#include <cstdint>

#include "kernels/registry.h"

namespace mezzotint {

// kFloatRows, kInt8Rows, kNibbleRows, kE4M3Rows: the bytes of the file. 0 bytes: the layout does
// not hold this element.
bool holds_float(const QuantScheme& weight, ActivationForm activation);
bool holds_int8(const QuantScheme& weight, ActivationForm activation);
bool holds_nibbles(const QuantScheme& weight, ActivationForm activation);
bool holds_e4m3(const QuantScheme& weight, ActivationForm activation);
int64_t float_rows_bytes(int64_t n, int64_t k, Element element);
int64_t int8_rows_bytes(int64_t n, int64_t k, Element element);
int64_t nibble_rows_bytes(int64_t n, int64_t k, Element element);
int64_t e4m3_rows_bytes(int64_t n, int64_t k, Element element);
void copy_rows(const WeightCodes& codes, std::byte* payload);
void copy_rows_back(const std::byte* payload, const WeightCodes& shape, std::byte* codes);

// kInt8Vnni (int8_vnni_layout.h); n and k are padded with the code 0.
bool holds_int8_codes_x(const QuantScheme& weight, ActivationForm activation);
int64_t int8_vnni_bytes(int64_t n, int64_t k, Element element);
void pack_int8_vnni(const WeightCodes& codes, std::byte* payload);
void unpack_int8_vnni(const std::byte* payload, const WeightCodes& shape, std::byte* codes);

// kNibblePanels (nibble_panels_layout.h); n and k are padded with the code 0.
bool holds_nibble_panels(const QuantScheme& weight, ActivationForm activation);
int64_t nibble_panels_bytes(int64_t n, int64_t k, Element element);
void pack_nibble_panels(const WeightCodes& codes, std::byte* payload);
void unpack_nibble_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes);

// Whether a weight has MX blocks and meets MX codes of x.
bool is_mx_scheme(const QuantScheme& weight, ActivationForm activation);

// kBytePanels, kWordPanels, kBf16Panels (panel_layout.h); n and k are padded with zeros.
bool holds_byte_panels(const QuantScheme& weight, ActivationForm activation);
bool holds_word_panels(const QuantScheme& weight, ActivationForm activation);
bool holds_bf16_panels(const QuantScheme& weight, ActivationForm activation);
int64_t byte_panels_bytes(int64_t n, int64_t k, Element element);
int64_t word_panels_bytes(int64_t n, int64_t k, Element element);
int64_t bf16_panels_bytes(int64_t n, int64_t k, Element element);
void pack_byte_panels(const WeightCodes& codes, std::byte* payload);
void unpack_byte_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes);
void pack_word_panels(const WeightCodes& codes, std::byte* payload);
void unpack_word_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes);
void pack_bf16_panels(const WeightCodes& codes, std::byte* payload);
void unpack_bf16_panels(const std::byte* payload, const WeightCodes& shape, std::byte* codes);

int64_t element_row_bytes(Element element, int64_t k);  // one row of a row-major matrix
DType element_dtype(Element element);                   // as a file stores it

}  // namespace mezzotint
