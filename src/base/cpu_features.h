// Which instruction sets this processor and operating system offer.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mezzotint {

// In rising order: each level includes the ones before it. One folder of src/kernels/cpu each.
enum class Isa : uint8_t { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16 };

std::string_view isa_name(Isa isa) noexcept;  // "avx512_vnni"
std::optional<Isa> isa_from_name(std::string_view name) noexcept;

// The highest level of the processor (checks the saved register state as well).
Isa detected_isa() noexcept;

// detected_isa() capped by MEZZOTINT_ISA. Throws Error(kUsage) on an unknown value and
// Error(kUnsupported) when the processor lacks what it asks for.
Isa active_isa();

}  // namespace mezzotint
