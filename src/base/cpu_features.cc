#include "base/cpu_features.h"

#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/env.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

struct IsaRow {
  Isa isa;
  std::string_view name;
};

constexpr IsaRow kIsaRows[] = {
    {Isa::kPortable, "portable"},      {Isa::kAvx2, "avx2"},
    {Isa::kAvx512, "avx512"},          {Isa::kAvx512Vnni, "avx512_vnni"},
    {Isa::kAvx512Bf16, "avx512_bf16"},
};

constexpr uint32_t bit(int i) { return uint32_t{1} << i; }

// Intel SDM vol. 2A, CPUID; the sets are those of x86-64-v3 and x86-64-v4.
constexpr uint32_t kLeaf1V3 = bit(12) | bit(22) | bit(27) | bit(28) | bit(29);
//                            FMA       MOVBE     OSXSAVE   AVX       F16C
constexpr uint32_t kLeaf7V3 = bit(3) | bit(5) | bit(8);  // BMI1 AVX2 BMI2
constexpr uint32_t kExtendedV3 = bit(5);                 // LZCNT
constexpr uint32_t kLeaf7V4 = bit(16) | bit(17) | bit(28) | bit(30) | bit(31);
//                            F         DQ        CD        BW        VL
constexpr uint32_t kLeaf7Vnni = bit(11);  // ecx
constexpr uint32_t kLeaf71Bf16 = bit(5);  // eax of sub-leaf 1

constexpr uint64_t kXcr0Ymm = 0x06;  // SSE and AVX state
constexpr uint64_t kXcr0Zmm = 0xe6;  // and opmask, zmm0-15 upper halves, zmm16-31

constexpr bool has(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

#if defined(__x86_64__)
uint64_t read_xcr0() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

CpuidLeaves read_leaves() {
  CpuidLeaves leaves;
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t c = 0;
  uint32_t d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) != 0) leaves.leaf1_ecx = c;
  if (has(leaves.leaf1_ecx, bit(27))) leaves.xcr0 = read_xcr0();
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
    leaves.leaf7_ebx = b;
    leaves.leaf7_ecx = c;
    const uint32_t last_subleaf = a;
    if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) leaves.leaf7_1_eax = a;
  }
  if (__get_cpuid(0x80000001, &a, &b, &c, &d) != 0) leaves.extended1_ecx = c;
  return leaves;
}
#endif

std::string all_names() {
  std::string names;
  for (const IsaRow& row : kIsaRows) {
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

}  // namespace

std::string_view isa_name(Isa isa) noexcept {
  for (const IsaRow& row : kIsaRows) {
    if (row.isa == isa) return row.name;
  }
  return "unknown";
}

std::optional<Isa> isa_from_name(std::string_view name) noexcept {
  for (const IsaRow& row : kIsaRows) {
    if (row.name == name) return row.isa;
  }
  return std::nullopt;
}

Isa isa_of(const CpuidLeaves& leaves) noexcept {
  if (!has(leaves.leaf1_ecx, kLeaf1V3) || !has(leaves.leaf7_ebx, kLeaf7V3) ||
      !has(leaves.extended1_ecx, kExtendedV3) || !has(leaves.xcr0, kXcr0Ymm)) {
    return Isa::kPortable;
  }
  if (!has(leaves.leaf7_ebx, kLeaf7V4) || !has(leaves.xcr0, kXcr0Zmm)) return Isa::kAvx2;
  if (!has(leaves.leaf7_ecx, kLeaf7Vnni)) return Isa::kAvx512;
  if (!has(leaves.leaf7_1_eax, kLeaf71Bf16)) return Isa::kAvx512Vnni;
  return Isa::kAvx512Bf16;
}

Isa detected_isa() noexcept {
#if defined(__x86_64__)
  static const Isa isa = isa_of(read_leaves());
  return isa;
#else
  return Isa::kPortable;
#endif
}

Isa active_isa() {
  const std::optional<std::string> wanted = env("MEZZOTINT_ISA");
  if (!wanted) return detected_isa();
  const std::optional<Isa> isa = isa_from_name(*wanted);
  if (!isa) {
    throw Error(ErrorCode::kUsage, "MEZZOTINT_ISA names no instruction set",
                {.expected = "one of " + all_names(),
                 .found = "\"" + *wanted + "\"",
                 .fix = "correct or unset MEZZOTINT_ISA"});
  }
  if (*isa > detected_isa()) {
    throw Error(ErrorCode::kUnsupported,
                "MEZZOTINT_ISA asks for an instruction set this processor lacks",
                {.expected = std::string(isa_name(detected_isa())) + " or less",
                 .found = *wanted,
                 .fix = "correct or unset MEZZOTINT_ISA (" + all_names() + ")"});
  }
  return *isa;
}

}  // namespace mezzotint
