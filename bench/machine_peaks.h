// What this machine can do at most, measured beside what is judged by it.
//
// On a shared machine neither a rate nor a peak taken alone says anything: measure both in turns.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/cpu_features.h"

namespace mezzotint::bench {

enum class Peak : uint8_t { kInt8Dot, kBf16Dot, kFma, kMemoryRead };
inline constexpr int kPeaks = 4;

// The best instruction of the kind that kernels of `isa` may use; empty: none. Without VNNI an int8
// dot product is vpmaddwd on 16-bit numbers; without bf16 instructions a bf16 one is FMA on floats.
std::string_view peak_instruction(Peak peak, Isa isa);

// How many of these a core cycle takes (kernels/peak_loops.h): the number of its pipes. 0: none.
double instructions_a_cycle(Peak peak, Isa isa);

// Operations per second, or bytes per second of kMemoryRead, of `threads` threads together: takes
// one to 20 milliseconds. 0 when the ISA has no such instruction.
double measure_peak(Peak peak, Isa isa, int threads);

}  // namespace mezzotint::bench
