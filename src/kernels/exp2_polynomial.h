// 2^r on [-0.5, 0.5]: the minimax polynomial of degree 5, whose error is 1.6 * 2^-24.
#pragma once

namespace mezzotint {

inline constexpr float kExp2Polynomial[] = {1.0f,           0x1.62e42ap-1f, 0x1.ebf9bcp-3f,
                                            0x1.c6b752p-5f, 0x1.3cea88p-7f, 0x1.5bba14p-10f};

}  // namespace mezzotint
