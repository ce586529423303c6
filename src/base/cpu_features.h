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

// What the processor answers; split from detected_isa() so that tests can ask about any processor.
struct CpuidLeaves {
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0;
  uint32_t leaf7_ecx = 0;
  uint32_t leaf7_1_eax = 0;
  uint32_t extended1_ecx = 0;  // leaf 0x80000001
  uint64_t xcr0 = 0;           // register state that the operating system saves; 0 without OSXSAVE
};
Isa isa_of(const CpuidLeaves& leaves) noexcept;

// The highest level of the processor (checks the saved register state as well).
Isa detected_isa() noexcept;

// detected_isa() capped by MEZZOTINT_ISA. Throws Error(kUsage) on an unknown value and
// Error(kUnsupported) when the processor lacks what it asks for.
Isa active_isa();

}  // namespace mezzotint
