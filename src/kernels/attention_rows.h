// What the ISA folders offer from the shared source flash_attention.inl.
#pragma once

#include "kernels/ops.h"

#define MZ_ATTENTION_ROWS(isa)             \
  namespace mezzotint::isa {               \
  extern const AttentionOps kAttentionOps; \
  }

MZ_ATTENTION_ROWS(portable::attention)
MZ_ATTENTION_ROWS(avx2)
MZ_ATTENTION_ROWS(avx512)
MZ_ATTENTION_ROWS(avx512_bf16)

#undef MZ_ATTENTION_ROWS
