#include "base/cpu_features.h"

#include <gtest/gtest.h>

#include <string>

#include "base/scoped_env.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

// A processor with everything, as a Sapphire Rapids answers.
constexpr CpuidLeaves kEverything = {.leaf1_ecx = 0x7ffefbff,
                                     .leaf7_ebx = 0xf1bf07ab,
                                     .leaf7_ecx = 0x1b415f6e,
                                     .leaf7_1_eax = 0x00001c30,
                                     .extended1_ecx = 0x00000121,
                                     .xcr0 = 0x602e7};

constexpr uint32_t without(uint32_t value, int bit) { return value & ~(uint32_t{1} << bit); }

TEST(Isa, NamesRoundTrip) {
  for (const Isa isa :
       {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16}) {
    EXPECT_EQ(isa_from_name(isa_name(isa)), isa);
  }
  EXPECT_EQ(isa_name(Isa::kAvx512Vnni), "avx512_vnni");
  EXPECT_EQ(isa_from_name("AVX2"), std::nullopt);
}

TEST(Isa, FollowsTheCpuidBits) {
  EXPECT_EQ(isa_of({}), Isa::kPortable);
  EXPECT_EQ(isa_of(kEverything), Isa::kAvx512Bf16);
  CpuidLeaves cpu = kEverything;
  cpu.leaf7_1_eax = without(cpu.leaf7_1_eax, 5);
  EXPECT_EQ(isa_of(cpu), Isa::kAvx512Vnni);
  cpu.leaf7_ecx = without(cpu.leaf7_ecx, 11);
  EXPECT_EQ(isa_of(cpu), Isa::kAvx512);
  cpu.leaf7_ebx = without(cpu.leaf7_ebx, 31);
  EXPECT_EQ(isa_of(cpu), Isa::kAvx2);
  cpu.leaf7_ebx = without(cpu.leaf7_ebx, 5);
  EXPECT_EQ(isa_of(cpu), Isa::kPortable);
}

TEST(Isa, NeedsTheOperatingSystemToSaveTheRegisters) {
  CpuidLeaves cpu = kEverything;
  cpu.xcr0 = 0x67;  // no upper half of zmm0-15
  EXPECT_EQ(isa_of(cpu), Isa::kAvx2);
  cpu.xcr0 = 0xc7;  // no opmask
  EXPECT_EQ(isa_of(cpu), Isa::kAvx2);
  cpu.xcr0 = 0x3;  // no ymm
  EXPECT_EQ(isa_of(cpu), Isa::kPortable);
}

TEST(Isa, ALaterBitDoesNotMakeUpForAnEarlierOne) {
  CpuidLeaves cpu = kEverything;
  cpu.leaf7_ecx = without(cpu.leaf7_ecx, 11);  // BF16 without VNNI
  EXPECT_EQ(isa_of(cpu), Isa::kAvx512);
}

#if defined(__x86_64__)
TEST(Isa, DetectsNoMoreThanTheCompilerSees) {
  const Isa isa = detected_isa();
  EXPECT_TRUE(isa < Isa::kAvx2 || __builtin_cpu_supports("avx2"));
  EXPECT_TRUE(isa < Isa::kAvx512 || __builtin_cpu_supports("avx512bw"));
  EXPECT_TRUE(isa < Isa::kAvx512Vnni || __builtin_cpu_supports("avx512vnni"));
  EXPECT_TRUE(isa < Isa::kAvx512Bf16 || __builtin_cpu_supports("avx512bf16"));
}
#endif

TEST(ActiveIsa, IsTheCeilingOfTheEnvironment) {
  const ScopedEnv unset("MEZZOTINT_ISA", nullptr);
  EXPECT_EQ(active_isa(), detected_isa());
  const ScopedEnv portable("MEZZOTINT_ISA", "portable");
  EXPECT_EQ(active_isa(), Isa::kPortable);
}

TEST(ActiveIsa, RejectsAnUnknownNameListingTheValidOnes) {
  const ScopedEnv guard("MEZZOTINT_ISA", "avx9");
  try {
    active_isa();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    const std::string what = e.what();
    EXPECT_NE(what.find("one of portable, avx2, avx512, avx512_vnni, avx512_bf16"),
              std::string::npos)
        << what;
    EXPECT_NE(what.find("\"avx9\""), std::string::npos) << what;
  }
}

TEST(ActiveIsa, RejectsWhatTheProcessorLacks) {
  if (detected_isa() == Isa::kAvx512Bf16) GTEST_SKIP() << "this processor lacks nothing";
  const ScopedEnv guard("MEZZOTINT_ISA", "avx512_bf16");
  try {
    active_isa();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
  }
}

}  // namespace
}  // namespace mezzotint
