// What the attentions of a model cost, measured before anything is converted.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/layer_costs.h"
#include "mezzotint/context.h"
#include "models/shape_list.h"

namespace mezzotint::cli {

enum class AttentionWay : uint8_t { kFloat, kFp8 };

// Of one sample, q, k and v BF16; bytes are those of the rotations. Calls with more queries than
// `rows_at_most` are measured with so many and with an eighth of them, which says what one more
// costs; those with more than 16,384 keys with so many, and in proportion.
LayerCost attention_cost(AttentionWay way, const std::vector<AttentionCallShape>& calls,
                         int64_t rows_at_most, const ExecContext& ctx);

}  // namespace mezzotint::cli
